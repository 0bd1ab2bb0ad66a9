"""The gated cross network of GDCN (Wang et al. 2023, section 3.2).

Shape suffixes: B = batch, I = input width.
"""

from __future__ import annotations

import torch
from torch import nn


class GatedCross(nn.Module):
    """Layers x_{l+1} = x_0 * (W_l x_l + b_l) * sigmoid(G_l x_l) + x_l.

    W_l and G_l are [I, I]: the gate G says how much of each crossed feature passes. The
    biases start uniform in [0, 1), as in the authors' code.
    """

    def __init__(self, input_dim: int, *, num_layers: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            nn.Linear(input_dim, input_dim) for _ in range(num_layers)
        )
        self.gates = nn.ModuleList(
            nn.Linear(input_dim, input_dim, bias=False) for _ in range(num_layers)
        )
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.uniform_(parameter)
        self.output_dim = input_dim

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        """Return the crossed input, shape [B, I]."""
        crossed_BI = x_BI
        for linear, gate in zip(self.maps, self.gates, strict=True):
            passed_BI = linear(crossed_BI) * torch.sigmoid(gate(crossed_BI))
            crossed_BI = torch.addcmul(crossed_BI, x_BI, passed_BI)
        return crossed_BI
