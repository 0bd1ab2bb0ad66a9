"""A cross network with an MLP (DCN V2, Wang et al. 2021, figure 1).

Shape suffixes: B = batch, I = input width.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch
from torch import nn

from dlrm.layers.mlp import MLP


class Structure(Enum):
    """Where the MLP stands."""

    stacked = "stacked"
    """It reads the crossed input."""
    parallel = "parallel"
    """It reads the input; the logit is linear in both outputs."""


class DeepCross(nn.Module):
    """A logit of a cross network, which keeps the width, and an MLP of ``widths``."""

    def __init__(
        self,
        cross: nn.Module,
        input_dim: int,
        *,
        structure: Structure,
        widths: Sequence[int],
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.cross = cross
        self.mlp = MLP(input_dim, widths, dropout=dropout, batch_norm=batch_norm)
        self.parallel = structure is Structure.parallel
        deep_dim = self.mlp.output_dim
        logit_dim = input_dim + deep_dim if self.parallel else deep_dim
        self.logit = MLP(logit_dim, [], output_dim=1)

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 1]."""
        crossed_BI = self.cross(x_BI)
        if self.parallel:
            return self.logit(torch.cat([crossed_BI, self.mlp(x_BI)], dim=1))
        return self.logit(self.mlp(crossed_BI))
