import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from dlrm.evaluation.predictions import (
    Predictions,
    collect_predictions,
    concatenate_predictions,
)
from tests.builders import random_batch, small_schema

CPU = torch.device("cpu")


class SumOfDense(nn.Module):
    """Logit = sum of the dense columns, through dropout that training would apply."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.9)
        self.frozen = nn.BatchNorm1d(2)
        self.saw_gradients = False

    def forward(self, batch):
        self.saw_gradients |= torch.is_grad_enabled()
        return self.dropout(batch.dense).sum(1, keepdim=True)


def batches(order):
    """Batches of three rows whose row ids are cut from ``order``; -1 is padding."""
    schema = small_schema()
    for start in range(0, len(order), 3):
        row_ids = torch.tensor(order[start : start + 3])
        batch = random_batch(schema, num_rows=len(row_ids), seed=start)
        dense = torch.stack([row_ids.float(), torch.ones(len(row_ids))], 1)
        labels = (row_ids % 2).float()
        yield dataclasses.replace(batch, row_ids=row_ids, dense=dense, labels=labels)


def test_predictions_come_by_row_id_without_padding_or_dropout():
    found = collect_predictions(SumOfDense(), batches([4, 0, 2, -1, 3, 1, -1]), CPU)
    np.testing.assert_array_equal(found.row_ids, np.arange(5))
    np.testing.assert_array_equal(found.logits, np.arange(5) + 1.0)
    np.testing.assert_array_equal(found.labels, np.arange(5) % 2)
    assert found.row_ids.dtype == np.int64
    assert {a.dtype for a in (found.logits, found.labels, found.weights)} == {
        np.dtype(np.float32)
    }
    assert len(found) == 5


def test_every_module_gets_its_mode_back_and_no_gradient_is_kept():
    model = SumOfDense().train()
    model.frozen.eval()
    collect_predictions(model, batches([0, 1]), CPU)
    assert (model.training, model.dropout.training, model.frozen.training) == (
        True,
        True,
        False,
    )
    assert not model.saw_gradients


def test_the_mode_comes_back_even_when_a_batch_fails():
    def broken():
        yield from batches([0])
        raise OSError("the file is gone")

    model = SumOfDense().train()
    with pytest.raises(OSError, match="the file is gone"):
        collect_predictions(model, broken(), CPU)
    assert model.dropout.training


def test_half_precision_logits_are_widened():
    class Half(nn.Module):
        def forward(self, batch):
            return batch.dense[:, :1].bfloat16()

    found = collect_predictions(Half(), batches([0, 1, 2]), CPU)
    np.testing.assert_array_equal(found.logits, np.arange(3, dtype=np.float32))


def test_no_batches_give_no_predictions():
    found = collect_predictions(SumOfDense(), [], CPU)
    assert len(found) == 0
    assert found.row_ids.dtype == np.int64


def test_parts_are_put_together_by_row_id():
    def part(*ids):
        values = np.array(ids, dtype=np.float32)
        return Predictions(np.array(ids, dtype=np.int64), values, values, values)

    found = concatenate_predictions([part(3, -1), part(0, 2), part(1)])
    for values in (found.row_ids, found.logits, found.labels, found.weights):
        np.testing.assert_array_equal(values, np.arange(4))
