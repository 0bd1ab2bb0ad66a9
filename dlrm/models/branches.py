"""Losses of a model's branches, for models that are trained by more than their logit.

A model returns its one logit as every model does. One whose branches are supervised as
well holds a ``Branches`` module and hands it the branches' logits in ``forward``; the
trainer asks ``objective`` for what a step minimises.

Shape suffixes: B = batch, K = branches.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class Branches(nn.Module):
    """Holds the branches' logits of the last training forward.

    They are joined to the loss as Tri-BCE does (Li et al. 2024, arXiv 2407.13349,
    section 3.5): L + sum over branches of max(0, L_k - L) L_k, where L is the loss of
    the model's logit and L_k that of branch k's. The weights max(0, L_k - L) are
    differentiated too, as in the authors' code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.logits: tuple[torch.Tensor, ...] = ()

    def keep(self, *logits: torch.Tensor) -> None:
        """Hold branch logits [B, 1] for the loss; none outside training."""
        self.logits = logits if self.training else ()

    def take(self) -> tuple[torch.Tensor, ...]:
        """Return the held logits, once: they hold the step's whole graph."""
        logits, self.logits = self.logits, ()
        return logits

    @staticmethod
    def factors(losses: torch.Tensor) -> torch.Tensor:
        """Return the joined loss's derivative by L, L_1, ..., L_K, shape [1 + K]."""
        main, branches_K = losses[0], losses[1:]
        lags_K = (branches_K > main).to(losses.dtype)
        own = 1 - (lags_K * branches_K).sum()
        return torch.cat([own[None], lags_K * (2 * branches_K - main)])


def objective(
    model: nn.Module,
    loss_sum: torch.Tensor,
    weight_sum: torch.Tensor,
    *,
    branch_loss_sum: Callable[[torch.Tensor], torch.Tensor],
    over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums,
) -> torch.Tensor:
    """Return a scalar whose gradient is that of what a step minimises.

    Without branches it is the mean loss. With them it is the sums of the losses, each
    times the derivative of the joined loss at the means over the global batch, so that
    ranks with slices of it add up to the gradient of the whole: ``over_ranks`` adds
    detached sums, and ``weight_sum`` is the global batch's.
    """
    total = weight_sum.clamp(min=1e-12)
    found = next((m for m in model.modules() if isinstance(m, Branches)), None)
    logits = found.take() if found is not None else ()
    if found is None or not logits:
        return loss_sum / total
    sums = torch.stack([loss_sum, *map(branch_loss_sum, logits)])
    factors = found.factors(over_ranks(sums.detach()) / total)
    return (factors * sums).sum() / total
