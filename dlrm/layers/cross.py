"""The cross networks of DCN V2 (Wang et al. 2021, section 4): one of three kinds.

Shape suffixes: B = batch, I = input width.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import nn

from dlrm.layers.cross_layers import cross_layers
from dlrm.layers.dense_passes import is_fused
from dlrm.layers.low_rank_cross import LowRankCross
from dlrm.layers.mixture_cross import MixtureCross


class CrossKind(Enum):
    """The weight of a cross layer."""

    full_rank = "full_rank"
    """One square matrix."""
    low_rank = "low_rank"
    """A product of two thin matrices."""
    mixture = "mixture"
    """Gated low-rank experts."""


class FullRankCross(nn.Module):
    """Layers x_{l+1} = x_0 * (W_l x_l + b_l) + x_l with W_l [I, I] (equation 1)."""

    def __init__(self, input_dim: int, *, num_layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            nn.Linear(input_dim, input_dim) for _ in range(num_layers)
        )
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.zeros_(parameter)
        self.output_dim = input_dim

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        """Return the crossed input, shape [B, I]."""
        if is_fused(x_BI):
            linears = [m for m in self.maps if isinstance(m, nn.Linear)]
            return cross_layers(x_BI, [(m.weight, m.bias) for m in linears])
        crossed_BI = x_BI
        for linear in self.maps:
            crossed_BI = torch.addcmul(crossed_BI, x_BI, linear(crossed_BI))
        return crossed_BI


CrossNetwork = FullRankCross | LowRankCross | MixtureCross


def build_cross(
    kind: CrossKind, input_dim: int, *, num_layers: int, rank: int, num_experts: int
) -> CrossNetwork:
    """Return a cross network from [B, I] to [B, I].

    ``rank`` is read by the low-rank kinds, ``num_experts`` by the mixture alone.
    """
    match kind:
        case CrossKind.full_rank:
            return FullRankCross(input_dim, num_layers=num_layers)
        case CrossKind.low_rank:
            return LowRankCross(input_dim, num_layers=num_layers, rank=rank)
        case CrossKind.mixture:
            return MixtureCross(
                input_dim, num_layers=num_layers, rank=rank, num_experts=num_experts
            )
