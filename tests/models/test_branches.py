"""The loss of a model whose branches are supervised as well (Tri-BCE)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dlrm.data.batch import Batch
from dlrm.models.branches import Branches, objective
from dlrm.models.task import ClickTask


class TwoBranches(nn.Module):
    """A model of two linear branches, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 1, dtype=torch.float64)
        self.second = nn.Linear(3, 1, dtype=torch.float64)
        self.branches = Branches()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.first(x), self.second(x)
        self.branches.keep(first, second)
        return (first + second) / 2


def rows(num_rows: int = 12) -> Batch:
    torch.manual_seed(0)
    return Batch(
        dense=torch.randn(num_rows, 3, dtype=torch.float64),
        sparse={},
        labels=torch.randint(0, 2, (num_rows,)).double(),
        weights=torch.rand(num_rows, dtype=torch.float64),
        row_ids=torch.arange(num_rows),
    )


def part_of(batch: Batch, part: slice) -> Batch:
    names = ("dense", "labels", "weights", "row_ids")
    return dataclasses.replace(batch, **{n: getattr(batch, n)[part] for n in names})


def mean_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the weighted mean of the log loss, by its definition."""
    clicked = torch.sigmoid(logits[:, 0])
    chances = torch.where(batch.labels == 1, clicked, 1 - clicked)
    return -(batch.weights * chances.log()).sum() / batch.weights.sum()


def tri_bce(model: TwoBranches, batch: Batch) -> torch.Tensor:
    """Return L + sum of max(0, L_k - L) L_k, differentiated throughout."""
    first, second = model.first(batch.dense), model.second(batch.dense)
    total = main = mean_loss((first + second) / 2, batch)
    for branch in (first, second):
        loss = mean_loss(branch, batch)
        total = total + torch.clamp(loss - main, min=0) * loss
    return total


def gradients(model: nn.Module, scalar: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(scalar, list(model.parameters())))


def model_objective(
    model: nn.Module,
    batch: Batch,
    *,
    weight_sum: torch.Tensor | None = None,
    over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums,
) -> torch.Tensor:
    """Return what a step minimises, the weights' sum being the batch's or another."""
    task = ClickTask()
    loss_sum, own_sum = task.loss_sum(model(batch.dense), batch)
    return objective(
        model,
        loss_sum,
        own_sum if weight_sum is None else weight_sum,
        branch_loss_sum=lambda logits: task.loss_sum(logits, batch)[0],
        over_ranks=over_ranks,
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_that_of_the_joined_loss(seed):
    torch.manual_seed(seed)
    model, batch = TwoBranches(), rows()
    found = gradients(model, model_objective(model, batch))
    torch.testing.assert_close(found, gradients(model, tri_bce(model, batch)))


def test_slices_of_a_batch_add_up_to_the_gradient_of_the_whole():
    model, batch = TwoBranches(), rows()
    expected = gradients(model, tri_bce(model, batch))
    parts = [part_of(batch, slice(0, 5)), part_of(batch, slice(5, 12))]
    seen: list[torch.Tensor] = []
    for part in parts:
        model_objective(model, part, over_ranks=lambda sums: seen.append(sums) or sums)
    found = [torch.zeros_like(gradient) for gradient in expected]
    for part in parts:
        loss = model_objective(
            model,
            part,
            weight_sum=batch.weights.sum(),
            over_ranks=lambda sums: seen[0] + seen[1],
        )
        for so_far, gradient in zip(found, gradients(model, loss), strict=True):
            so_far += gradient
    torch.testing.assert_close(found, expected)


def test_a_branch_that_does_not_lag_behind_has_no_part_in_the_loss():
    factors = Branches.factors(torch.tensor([0.5, 0.4, 0.7]))
    torch.testing.assert_close(factors, torch.tensor([1 - 0.7, 0.0, 2 * 0.7 - 0.5]))


def test_a_model_without_branches_minimises_the_mean_loss():
    model, batch = nn.Linear(3, 1, dtype=torch.float64), rows()
    expected = mean_loss(model(batch.dense), batch)
    torch.testing.assert_close(model_objective(model, batch), expected)


def test_evaluation_keeps_no_logits():
    model = TwoBranches().eval()
    model(rows().dense)
    assert model.branches.logits == ()


def test_weights_that_are_all_zero_give_no_gradient_and_no_nan():
    model, batch = TwoBranches(), rows()
    batch = dataclasses.replace(batch, weights=torch.zeros_like(batch.weights))
    loss = model_objective(model, batch)
    assert all(not gradient.any() for gradient in gradients(model, loss))
