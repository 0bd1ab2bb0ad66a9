"""Embedding: shapes, options and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dlrm.config.errors import ConfigError, DataError
from dlrm.embeddings.embedding import Embedding

ROWS = torch.arange(14.0).view(7, 2)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 1, 2)])
def test_ids_of_any_shape_gain_one_dimension(shape):
    ids = torch.arange(7).repeat(2)[: int(np.prod(shape))].view(shape)
    rows = Embedding.from_pretrained(ROWS)(ids)
    assert rows.shape == (*shape, 2)
    assert torch.equal(rows, ROWS[ids])


def test_ids_may_be_lists_or_arrays():
    embedding = Embedding.from_pretrained(ROWS)
    assert torch.equal(embedding([[1, 2], [3, 4]]), ROWS[1:5].view(2, 2, 2))
    assert torch.equal(embedding(np.array([6])), ROWS[[6]])


@pytest.mark.parametrize("scale", [False, True])
def test_the_padding_row_is_given_out_but_gets_no_gradient(scale):
    embedding = Embedding.from_pretrained(
        ROWS.clone(), freeze=False, padding_idx=-1, scale_grad_by_freq=scale
    )
    rows = embedding(torch.tensor([6, 2]))
    assert torch.equal(rows, ROWS[[6, 2]])
    rows.sum().backward()
    assert embedding.weight.grad[:, 0].tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_a_sparse_gradient_goes_with_frequencies():
    embedding = Embedding(7, 2, sparse=True, scale_grad_by_freq=True)
    embedding(torch.tensor([2, 2, 5])).sum().backward()
    gradient = embedding.weight.grad.coalesce()
    assert gradient.indices().tolist() == [[2, 5]]
    assert gradient.values().tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_evaluation_rescales_values_but_leaves_the_stored_rows():
    embedding = Embedding.from_pretrained(ROWS.clone(), freeze=False, max_norm=1.0)
    rows = embedding.eval()(torch.tensor([3, 3]))
    torch.testing.assert_close(rows, ROWS[[3, 3]] / (ROWS[3].norm() + 1e-7))
    assert torch.equal(embedding.weight, ROWS)
    rows.sum().backward()
    assert embedding.weight.grad[3].tolist() == [2.0, 2.0]


def test_state_dicts_are_torchs():
    theirs = nn.Embedding(7, 2, padding_idx=0)
    ours = Embedding(7, 2, padding_idx=0)
    ours.load_state_dict(theirs.state_dict())
    ids = torch.arange(7)
    assert torch.equal(ours(ids), theirs(ids))
    assert repr(ours) == "Embedding(7, 2, padding_idx=0)"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([[0, 7]]), r"0 to 6, but at \[0, 1\] there is 7"),
        (torch.tensor(-1), "0 to 6, but there is -1"),
        (torch.tensor([0.5]), "whole numbers, .* float32, such as 0.5"),
    ],
)
def test_ids_that_the_table_does_not_have_are_refused(ids, message):
    with pytest.raises(DataError, match=message):
        Embedding(7, 2)(ids)


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="num_embeddings must be >= 1, but it is 0"):
        Embedding(0, 2)
