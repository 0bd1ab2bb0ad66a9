"""Bring vectors of different widths to one.

Shape suffixes: B = batch, D = target width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Projections(nn.Module):
    """A linear map without bias for each vector whose width is not the target's.

    Vectors of the target width pass unchanged, so with equal widths there is no
    parameter.
    """

    def __init__(self, widths: Sequence[int], *, target_dim: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            nn.Identity()
            if width == target_dim
            else nn.Linear(width, target_dim, bias=False)
            for width in widths
        )

    def forward(self, vectors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return one [B, D] tensor for each input, in order."""
        return [
            project(vector) for project, vector in zip(self.maps, vectors, strict=True)
        ]
