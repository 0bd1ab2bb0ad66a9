from __future__ import annotations

import math

import pytest
import torch

from dlrm.models.task import ClickTask


def test_the_loss_is_the_weighted_sum_of_log_losses_by_the_definition():
    logits = torch.tensor([[0.5], [-1.0], [2.0]])
    labels, weights = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 2.0, 0.5])
    expected = 0.0
    for logit, label, weight in zip(
        [0.5, -1.0, 2.0], [1, 0, 0], [1, 2, 0.5], strict=True
    ):
        p = 1 / (1 + math.exp(-logit))
        expected -= weight * math.log(p if label else 1 - p)
    loss, total = ClickTask().loss_sum(logits, labels, weights)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert total.item() == 3.5


def test_a_click_counts_positive_weight_times():
    logits, labels = torch.tensor([[0.5], [0.5]]), torch.tensor([1.0, 0.0])
    task = ClickTask(positive_weight=3.0)
    loss, total = task.loss_sum(logits, labels, torch.ones(2))
    thrice, _ = ClickTask().loss_sum(
        torch.full((4, 1), 0.5), torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.ones(4)
    )
    assert loss.item() == pytest.approx(thrice.item())
    assert total.item() == 4.0


def test_rows_of_weight_zero_leave_loss_and_gradient_untouched():
    logits = torch.tensor([[0.5], [9.0]], requires_grad=True)
    loss, total = ClickTask().loss_sum(
        logits, torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    )
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[1].item() == 0.0
    assert total.item() == 1.0


def test_an_empty_batch_has_no_loss():
    empty = torch.zeros(0)
    loss, total = ClickTask().loss_sum(torch.zeros(0, 1), empty, empty)
    assert (loss.item(), total.item()) == (0.0, 0.0)
