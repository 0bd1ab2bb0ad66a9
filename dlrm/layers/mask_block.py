"""The MaskBlock of MaskNet (Wang et al. 2021, sections 3.2 and 3.3).

Shape suffixes: B = batch, I = width of the embeddings that make the mask, H = width of
the masked vector, O = output width.
"""

from __future__ import annotations

import torch
from torch import nn


class MaskBlock(nn.Module):
    """ReLU(LayerNorm(W (mask * hidden))), dropped out.

    The instance-guided mask is W_2 ReLU(W_1 e + b_1) + b_2 of the embeddings e; its
    inner layer is ``reduction`` times as wide as the masked vector.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        *,
        reduction: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        mask_dim = max(1, round(reduction * hidden_dim))
        self.mask_in = nn.Linear(input_dim, mask_dim)
        self.mask_out = nn.Linear(mask_dim, hidden_dim)
        self.linear = nn.Linear(hidden_dim, output_dim, bias=False)
        self.norm = nn.LayerNorm(output_dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.mask_in, self.mask_out, self.linear):
            nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(self.mask_in.bias)
        nn.init.zeros_(self.mask_out.bias)
        self.output_dim = output_dim

    def forward(self, embeddings_BI: torch.Tensor, x_BH: torch.Tensor) -> torch.Tensor:
        """Return [B, O]."""
        mask_BH = self.mask_out(torch.relu_(self.mask_in(embeddings_BI)))
        return self.dropout(torch.relu(self.norm(self.linear(mask_BH * x_BH))))
