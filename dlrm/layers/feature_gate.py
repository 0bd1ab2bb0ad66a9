"""The feature gate of FinalMLP (Mao et al. 2023, section 3.2).

Shape suffixes: B = batch, I = width of what is gated, C = width of the context.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dlrm.layers.mlp import MLP


class FeatureGate(nn.Module):
    """A gated input, 2 sigmoid(MLP(context)) * x: each column is weighed in (0, 2).

    Without a context from the features (``context_dim`` of 0) the context is a learned
    vector of width ``free_dim``, and the gate the same for all rows.
    """

    def __init__(
        self,
        input_dim: int,
        widths: Sequence[int],
        *,
        context_dim: int,
        free_dim: int,
    ) -> None:
        super().__init__()
        self.context: nn.Parameter | None = None
        if not context_dim:
            self.context = nn.Parameter(torch.zeros(1, free_dim))
        self.mlp = MLP(context_dim or free_dim, widths, output_dim=input_dim)

    def forward(
        self, x_BI: torch.Tensor, context_BC: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the gated input, shape [B, I].

        Raises:
            ValueError: There is a context where it is learned, or none where it is not.
        """
        if (self.context is None) != (context_BC is not None):
            expected = "a" if self.context is None else "no"
            found = "none" if context_BC is None else f"{list(context_BC.shape)}"
            raise ValueError(
                f"This feature gate takes {expected} context, but got {found}."
            )
        context = self.context if context_BC is None else context_BC
        return x_BI * (2 * torch.sigmoid(self.mlp(context)))
