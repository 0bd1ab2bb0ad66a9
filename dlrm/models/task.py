"""Tasks own loss and link. Shape suffix: B = batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits


@dataclass(frozen=True, slots=True)
class ClickTask:
    """Binary clicks: log loss under the logistic link."""

    positive_weight: float = 1.0
    """Class weight: factor on the sample weight of a click."""

    def loss_sum(
        self, logits: torch.Tensor, labels_B: torch.Tensor, weights_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sum(w * l) and sum(w) over the rows of ``logits`` [B, 1].

        The trainer divides by the sum of weights over all ranks, so that a step sees
        the mean over the global batch whatever the slices' sizes.
        """
        if self.positive_weight != 1.0:
            weights_B = weights_B * (1 + (self.positive_weight - 1) * labels_B)
        losses = binary_cross_entropy_with_logits(
            logits.squeeze(1), labels_B, weight=weights_B, reduction="sum"
        )
        return losses, weights_B.sum()
