"""The bilinear fusion of FinalMLP (Mao et al. 2023, section 3.3).

Shape suffixes: B = batch, X and Y = widths of the two streams, H = heads.
"""

from __future__ import annotations

import torch
from torch import nn


class BilinearFusion(nn.Module):
    """A logit b + w_x . x + w_y . y + sum over heads of x_h^T W_h y_h.

    Head h reads the h-th of H equal slices of x and of y.
    """

    def __init__(self, x_dim: int, y_dim: int, *, num_heads: int = 1) -> None:
        super().__init__()
        if x_dim % num_heads or y_dim % num_heads:
            raise ValueError(
                f"Widths {x_dim} and {y_dim} must be multiples of the {num_heads} "
                f"heads. Choose other widths or fewer heads."
            )
        self.x_weight = nn.Linear(x_dim, 1)
        self.y_weight = nn.Linear(y_dim, 1, bias=False)
        widths = (num_heads, x_dim // num_heads, y_dim // num_heads)
        self.heads = nn.Parameter(torch.empty(widths))
        for weight in (self.x_weight.weight, self.y_weight.weight):
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.x_weight.bias)
        # As one weight of all products to one output: a logit sums up that many.
        nn.init.normal_(self.heads, std=(2 / (self.heads.numel() + 1)) ** 0.5)

    def forward(self, x_BX: torch.Tensor, y_BY: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 1]."""
        num_heads = len(self.heads)
        x_HBX = x_BX.unflatten(1, (num_heads, -1)).transpose(0, 1)
        mixed_BY = torch.bmm(x_HBX, self.heads).transpose(0, 1).flatten(1)
        products_B1 = (mixed_BY * y_BY).sum(dim=1, keepdim=True)
        return self.x_weight(x_BX) + self.y_weight(y_BY) + products_B1
