from __future__ import annotations

import math

import pytest
import torch
from torchrec.sparse.jagged_tensor import JaggedTensor

from dlrm.config.task import ClassLoss
from dlrm.data.batch import Batch
from dlrm.models.task import ClassTask, ClickTask, one_of_each


def clicks(labels, weights):
    return batch_of(labels, weights)


def batch_of(labels, weights, classes=None):
    size = len(weights)
    return Batch(
        dense=torch.zeros(size, 0),
        sparse={},
        labels=labels,
        weights=weights,
        row_ids=torch.arange(size),
        classes=classes,
    )


def jagged(*rows):
    return JaggedTensor(
        values=torch.tensor([x for row in rows for x in row], dtype=torch.int32),
        lengths=torch.tensor([len(row) for row in rows], dtype=torch.int32),
    )


def test_the_loss_is_the_weighted_sum_of_log_losses_by_the_definition():
    logits = torch.tensor([[0.5], [-1.0], [2.0]])
    labels, weights = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 2.0, 0.5])
    expected = 0.0
    for logit, label, weight in zip(
        [0.5, -1.0, 2.0], [1, 0, 0], [1, 2, 0.5], strict=True
    ):
        p = 1 / (1 + math.exp(-logit))
        expected -= weight * math.log(p if label else 1 - p)
    loss, total = ClickTask().loss_sum(logits, clicks(labels, weights))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert total.item() == 3.5


def test_a_click_counts_positive_weight_times():
    logits, labels = torch.tensor([[0.5], [0.5]]), torch.tensor([1.0, 0.0])
    task = ClickTask(positive_weight=3.0)
    loss, total = task.loss_sum(logits, clicks(labels, torch.ones(2)))
    thrice, _ = ClickTask().loss_sum(
        torch.full((4, 1), 0.5),
        clicks(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.ones(4)),
    )
    assert loss.item() == pytest.approx(thrice.item())
    assert total.item() == 4.0


def test_rows_of_weight_zero_leave_loss_and_gradient_untouched():
    logits = torch.tensor([[0.5], [9.0]], requires_grad=True)
    loss, total = ClickTask().loss_sum(
        logits, clicks(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    )
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[1].item() == 0.0
    assert total.item() == 1.0


def test_an_empty_batch_has_no_loss():
    empty = torch.zeros(0)
    loss, total = ClickTask().loss_sum(torch.zeros(0, 1), clicks(empty, empty))
    assert (loss.item(), total.item()) == (0.0, 0.0)


ROWS = ([1], [0, 2], [], [-1], [2, -1])
"""Classes of five rows of three classes; -1 is one that no logit stands for."""


def some_logits():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, generator=generator, dtype=torch.float64)


def loss_of(task, logits, rows, weights):
    classes = jagged(*rows)
    return task.loss_sum(logits, batch_of(torch.zeros(5), weights, classes))


def test_softmax_loss_is_the_mean_over_a_rows_known_classes_by_the_definition():
    logits = some_logits()
    weights = torch.tensor([1.0, 2.0, 1.0, 1.0, 0.5], dtype=torch.float64)
    expected = total = 0.0
    for scores, row, weight in zip(
        logits.tolist(), ROWS, weights.tolist(), strict=True
    ):
        known = [x for x in row if x >= 0]
        if known:
            all_e = sum(math.exp(score) for score in scores)
            losses = [-math.log(math.exp(scores[x]) / all_e) for x in known]
            expected += weight * sum(losses) / len(losses)
            total += weight
    loss, weight_sum = loss_of(ClassTask(), logits, ROWS, weights)
    assert loss.item() == pytest.approx(expected)
    assert weight_sum.item() == total == 3.5


def test_one_vs_all_loss_sums_the_log_losses_of_all_classes():
    logits, weights = some_logits(), torch.ones(5, dtype=torch.float64)
    expected = 0.0
    for scores, row in zip(logits.tolist(), ROWS, strict=True):
        for label, score in enumerate(scores):
            p = 1 / (1 + math.exp(-score))
            expected -= math.log(p if label in row else 1 - p)
    loss, weight_sum = loss_of(ClassTask(ClassLoss.one_vs_all), logits, ROWS, weights)
    assert loss.item() == pytest.approx(expected)
    assert weight_sum.item() == 5.0


def test_a_drawn_label_has_the_mean_loss_in_expectation():
    logits, weights = some_logits(), torch.ones(5, dtype=torch.float64)
    rows = ([1], [0, 2], [], [2], [0, 1, 2])
    mean, total = loss_of(ClassTask(), logits, rows, weights)
    torch.manual_seed(1)
    drawn = [
        loss_of(ClassTask(draw_label=True), logits, rows, weights) for _ in range(2000)
    ]
    assert all(weight == total for _, weight in drawn)
    losses = torch.stack([loss for loss, _ in drawn])
    error = losses.std() / math.sqrt(len(losses))
    assert abs(losses.mean() - mean) < 4 * error


def test_one_of_each_takes_one_class_of_each_row_that_has_any():
    torch.manual_seed(0)
    seen = set()
    for _ in range(50):
        found = one_of_each(jagged([5, 6], [], [7]))
        assert found.lengths().tolist() == [1, 0, 1]
        seen.add(tuple(found.values().tolist()))
    assert seen == {(5, 7), (6, 7)}


def test_gradients_of_rows_without_a_known_class_are_zero():
    logits = some_logits().requires_grad_()
    loss, _ = loss_of(ClassTask(), logits, ROWS, torch.ones(5, dtype=torch.float64))
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[[2, 3]] == 0).all()
    assert (logits.grad[[0, 1, 4]] != 0).all()
