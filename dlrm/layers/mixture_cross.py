"""The mixture of low-rank experts of DCN V2 (Wang et al. 2021, section 4.2).

Shape suffixes: B = batch, I = input width, K = experts, R = rank.
"""

from __future__ import annotations

import torch
from torch import nn


class MixtureCross(nn.Module):
    """Layers x_{l+1} = sum_i G_i(x_l) E_i(x_l) + x_l (equations 4 and 5).

    E_i(x_l) = x_0 * (U_i tanh(C_i tanh(V_i x_l)) + b_l) with U_i [I, R], C_i [R, R] and
    V_i [R, I]. The gate G is a softmax over linear scores, one an expert.
    """

    def __init__(
        self, input_dim: int, *, num_layers: int, rank: int, num_experts: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _MixtureLayer(input_dim, rank=rank, num_experts=num_experts)
            for _ in range(num_layers)
        )
        self.output_dim = input_dim

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        """Return the crossed input, shape [B, I]."""
        crossed_BI = x_BI
        for layer in self.layers:
            crossed_BI = torch.addcmul(crossed_BI, x_BI, layer(crossed_BI))
        return crossed_BI


class _MixtureLayer(nn.Module):
    """The factor of x_0 in one layer.

    The gates add up to one and the bias is shared, so the gated sum of the experts is
    one matrix product over their gated inner vectors laid side by side.
    """

    def __init__(self, input_dim: int, *, rank: int, num_experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(input_dim, num_experts)
        self.down = nn.Linear(input_dim, num_experts * rank, bias=False)
        self.inner = nn.Parameter(torch.empty(num_experts, rank, rank))
        self.up = nn.Linear(num_experts * rank, input_dim)
        # Each expert's matrix has the variance that it would have alone.
        spread = (2 / (input_dim + rank)) ** 0.5
        nn.init.normal_(self.down.weight, std=spread)
        nn.init.normal_(self.up.weight, std=spread)
        nn.init.normal_(self.inner, std=rank**-0.5)
        nn.init.xavier_normal_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.up.bias)

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        gate_BK = torch.softmax(self.gate(x_BI), dim=1)
        down_BKR = torch.tanh(self.down(x_BI)).unflatten(1, (len(self.inner), -1))
        inner_KBR = torch.bmm(down_BKR.transpose(0, 1), self.inner.transpose(1, 2))
        inner_BKR = torch.tanh(inner_KBR.transpose(0, 1)) * gate_BK.unsqueeze(2)
        mixed_BI: torch.Tensor = self.up(inner_BKR.flatten(1))
        return mixed_BI
