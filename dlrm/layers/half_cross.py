"""The cross networks of FCN (Li et al. 2024, arXiv 2407.13349, sections 3.2 and 3.3).

Shape suffixes: B = batch, H = heads, I = input width of a head, J = I / 2.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import nn

from dlrm.layers.mlp import BatchNorm


class SecondHalf(Enum):
    """What stands beside c = W x, which is half as wide as x."""

    self_mask = "self_mask"
    """c * ReLU(LayerNorm(c)), the paper's Self-Mask (revisions up to 7)."""
    affine = "affine"
    """g * c + b with learned vectors, the low-cost aggregation (revision 8)."""


class HalfCross(nn.Module):
    """Layers x_{l+1} = a * ([c_l, second(c_l)] + b_l) + x_l with c_l = W_l x_l.

    W_l is [J, I]: half of a DCN V2 layer. The anchor a is x_0 in the linear network
    (LCN), whose order grows by one a layer, and x_l in the exponential one (ECN), whose
    order doubles. Batch norm, one mean and variance a head, falls on c_l before the
    mask, or on both halves where the second is affine; dropout on x_{l+1}. The biases
    start uniform in [0, 1), as in the authors' code.
    """

    def __init__(
        self,
        input_dim: int,
        *,
        num_layers: int,
        exponential: bool,
        second: SecondHalf = SecondHalf.self_mask,
        num_heads: int = 1,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if input_dim % 2:
            raise ValueError(
                f"A half cross needs an even input width, but got {input_dim}. Choose "
                f"an even width."
            )
        kind = _SelfMask if second is SecondHalf.self_mask else _Affine
        self.maps = nn.ModuleList(
            nn.Linear(input_dim, input_dim // 2, bias=False) for _ in range(num_layers)
        )
        self.halves = nn.ModuleList(
            kind(input_dim // 2, BatchNorm(num_heads) if batch_norm else nn.Identity())
            for _ in range(num_layers)
        )
        self.biases = nn.Parameter(torch.rand(num_layers, input_dim))
        self.dropout = nn.Dropout(dropout)
        self.exponential = exponential
        for weight in self.maps.parameters():
            nn.init.xavier_normal_(weight)
        self.output_dim = input_dim

    def forward(self, x_BHI: torch.Tensor) -> torch.Tensor:
        """Return the crossed input, shape [B, H, I]."""
        crossed_BHI = x_BHI
        for linear, halves, bias_I in zip(
            self.maps, self.halves, self.biases, strict=True
        ):
            anchor_BHI = crossed_BHI if self.exponential else x_BHI
            factor_BHI = halves(linear(crossed_BHI)) + bias_I
            crossed_BHI = torch.addcmul(crossed_BHI, anchor_BHI, factor_BHI)
            crossed_BHI = self.dropout(crossed_BHI)
        return crossed_BHI


class _SelfMask(nn.Module):
    def __init__(self, half_dim: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.mask_norm = nn.LayerNorm(half_dim)

    def forward(self, c_BHJ: torch.Tensor) -> torch.Tensor:
        c_BHJ = self.norm(c_BHJ)
        mask_BHJ = torch.relu(self.mask_norm(c_BHJ))
        return torch.cat([c_BHJ, c_BHJ * mask_BHJ], dim=2)


class _Affine(nn.Module):
    def __init__(self, half_dim: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.scale = nn.Parameter(torch.ones(half_dim))
        self.shift = nn.Parameter(torch.zeros(half_dim))

    def forward(self, c_BHJ: torch.Tensor) -> torch.Tensor:
        second_BHJ = torch.addcmul(self.shift, self.scale, c_BHJ)
        joined_BHI: torch.Tensor = self.norm(torch.cat([c_BHJ, second_BHJ], dim=2))
        return joined_BHI
