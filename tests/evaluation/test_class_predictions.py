"""Shape suffixes: B = batch, T = classes, K = classes listed a row."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torchrec.sparse.jagged_tensor import JaggedTensor

from dlrm.config.task import ClassLoss
from dlrm.data.batch import Batch
from dlrm.evaluation.class_predictions import (
    ClassPredictions,
    collect_classes,
    concatenate_classes,
    top_classes,
)
from dlrm.evaluation.classes import ClassJudge
from dlrm.evaluation.page import render_html
from dlrm.evaluation.report import ReportContext

CPU = torch.device("cpu")


class DenseAsLogits(nn.Module):
    def forward(self, batch: Batch) -> torch.Tensor:
        return batch.dense


def batch_of(
    row_ids: list[int], logits_BT: torch.Tensor, classes: list[list[int]]
) -> Batch:
    size = len(row_ids)
    return Batch(
        dense=logits_BT,
        sparse={},
        labels=torch.zeros(size),
        weights=torch.ones(size),
        row_ids=torch.tensor(row_ids),
        classes=JaggedTensor(
            values=torch.tensor([x for row in classes for x in row], dtype=torch.int32),
            lengths=torch.tensor([len(row) for row in classes], dtype=torch.int32),
        ),
    )


def predictions(
    loss: ClassLoss = ClassLoss.softmax, num_listed: int = 2
) -> ClassPredictions:
    """Return four rows of three classes from two batches, with padding and no order."""
    logits_BT = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    first = batch_of([2, 0, -1], logits_BT, [[2], [0, -1], []])
    second = batch_of([1, 3], logits_BT[:2], [[], [-1]])
    return collect_classes(
        DenseAsLogits(), [first, second], CPU, loss=loss, num_listed=num_listed
    )


def test_rows_come_in_the_order_of_row_ids_with_their_own_classes():
    found = predictions()
    assert found.row_ids.tolist() == [0, 1, 2, 3]
    assert found.num_labels.tolist() == [2, 0, 1, 1]
    assert found.labels.tolist() == [0, -1, 2, -1]
    assert found.top_classes.tolist() == [[0, 1], [1, 2], [1, 2], [0, 1]]
    assert found.hits().tolist() == [
        [True, False], [False, False], [False, True], [False, False],
    ]  # fmt: skip


def test_losses_and_probabilities_are_those_of_softmax():
    found = predictions()
    p = np.exp([3, 0, 0]) / np.exp([3, 0, 0]).sum()
    q = np.exp([0, 2, 1]) / np.exp([0, 2, 1]).sum()
    expected = [-np.log(p[0]), np.nan, -np.log(q[2]), np.nan]
    np.testing.assert_allclose(found.losses, expected)
    np.testing.assert_allclose(
        found.top_probabilities, [p[[0, 1]], q[[1, 2]], q[[1, 2]], p[[0, 1]]], rtol=1e-6
    )


def test_probabilities_of_one_against_all_are_each_its_own():
    found = predictions(ClassLoss.one_vs_all)
    np.testing.assert_allclose(
        found.top_probabilities[0], 1 / (1 + np.exp([-3.0, 0.0])), rtol=1e-6
    )
    assert not np.isnan(found.losses).any()


def test_no_more_classes_are_listed_than_there_are():
    assert predictions(num_listed=10).top_classes.shape == (4, 3)


def test_equal_logits_are_listed_by_class_id_wherever_the_cut_falls():
    generator = torch.Generator().manual_seed(0)
    logits_BT = torch.randint(0, 3, (200, 9), generator=generator).float()
    for k in (1, 4, 9):
        expected = [
            sorted(range(9), key=lambda t: (-row[t], t))[:k]
            for row in logits_BT.tolist()
        ]
        assert top_classes(logits_BT, k).tolist() == expected


def test_a_row_that_is_predicted_twice_is_our_mistake():
    found = predictions()
    with pytest.raises(AssertionError, match="twice"):
        concatenate_classes([found, found])


def judge(**settings: object) -> ClassJudge:
    names = pa.array(["sauce", "cheese", "bread"], pa.large_string())
    return ClassJudge(
        names,
        **{"loss": ClassLoss.softmax, "top_k": (1, 2), "one_a_row": False, **settings},  # type: ignore[arg-type]
    )


def test_metrics_count_unknown_classes_and_leave_empty_rows_out():
    metrics = judge().metrics(predictions())
    assert metrics["num_examples"] == 4
    assert metrics["num_labels"] == 4
    assert metrics["num_unknown_labels"] == 2
    assert metrics["num_unlabelled_examples"] == 1
    assert metrics["precision_at_1"] == pytest.approx(1 / 3)
    assert metrics["precision_at_2"] == pytest.approx(2 / 6)
    assert metrics["recall_at_1"] == pytest.approx(1 / 4)
    assert metrics["recall_at_2"] == pytest.approx(2 / 4)
    assert metrics["log_loss"] == pytest.approx(np.nanmean(predictions().losses))
    assert "undefined" not in metrics


def test_metrics_of_rows_without_any_class_are_undefined_and_say_why():
    found = predictions()
    empty = dataclasses.replace(
        found,
        num_labels=np.zeros(4, np.int32),
        labels=np.zeros(0, np.int32),
        losses=np.full(4, np.nan),
    )
    metrics = judge(one_a_row=True).metrics(empty)
    assert metrics["accuracy"] is None
    assert metrics["undefined"]["precision_at_1"] == "no row has a class"
    context = ReportContext(run="<mine>", split="test")
    page = render_html(judge(one_a_row=True).page(metrics, empty, context))
    assert "undefined" in page
    assert "<mine>" not in page


def test_tables_name_classes_and_leave_unknown_ones_out():
    table = pa.table(judge().predictions(predictions()))
    assert table["labels"].to_pylist() == [["sauce", None], [], ["bread"], [None]]
    assert table["predicted"].to_pylist()[0] == ["sauce", "cheese"]
    scores = pa.table(judge().scores(predictions()))
    assert scores.column_names == [
        "class_1", "probability_1", "class_2", "probability_2",
    ]  # fmt: skip
    assert scores["class_1"].to_pylist() == ["sauce", "cheese", "cheese", "sauce"]
