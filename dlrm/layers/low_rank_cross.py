"""The low-rank cross network of DCN V2 (Wang et al. 2021, section 4.2).

Shape suffixes: B = batch, I = input width, R = rank.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dlrm.layers.cross_layers import cross_layers
from dlrm.layers.dense_passes import is_fused


class LowRankCross(nn.Module):
    """Layers x_{l+1} = x_0 * (U_l (V_l x_l) + b_l) + x_l.

    U_l is [I, R] and V_l is [R, I].
    """

    def __init__(self, input_dim: int, *, num_layers: int, rank: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Linear(input_dim, rank, bias=False) for _ in range(num_layers)
        )
        self.up = nn.ModuleList(nn.Linear(rank, input_dim) for _ in range(num_layers))
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.zeros_(parameter)
        self.output_dim = input_dim

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        """Return the crossed input, shape [B, I]."""
        pairs = list(zip(self.down, self.up, strict=True))
        if is_fused(x_BI):
            layers: Any = [(down.weight, up.weight, up.bias) for down, up in pairs]
            return cross_layers(x_BI, layers)
        crossed_BI = x_BI
        for down, up in pairs:
            crossed_BI = torch.addcmul(crossed_BI, x_BI, up(down(crossed_BI)))
        return crossed_BI
