"""The projected dot interaction, as torchrec.models.dlrm.InteractionProjectionArch.

Shape suffixes: B = batch, F = number of vectors, D = their width, P = mixed vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dlrm.layers.mlp import MLP


class ProjectedDot(nn.Module):
    """Dot products between two sets of few vectors, each mixed from all vectors.

    Two MLPs of their own, with ReLU after every layer, read all vectors laid side by
    side; the first makes a [P, D] matrix of each row, the second a [D, P] matrix, and
    their product is the P * P interactions. It stands in for F * (F - 1) / 2 pairs.
    """

    def __init__(
        self,
        input_dim: int,
        *,
        embedding_dim: int,
        num_projected: int,
        widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if num_projected < 1:
            raise ValueError(
                f"A projected dot needs at least 1 projected vector, but got "
                f"{num_projected}."
            )
        layers = [*widths, num_projected * embedding_dim]
        self.left = MLP(input_dim, layers)
        self.right = MLP(input_dim, layers)
        self.num_projected, self.embedding_dim = num_projected, embedding_dim
        self.output_dim = num_projected**2

    def forward(self, joined: torch.Tensor) -> torch.Tensor:
        """Return [B, P * P], row by row, of all vectors side by side, [B, F * D]."""
        num_projected, width = self.num_projected, self.embedding_dim
        left_BPD = self.left(joined).unflatten(1, (num_projected, width))
        right_BDP = self.right(joined).unflatten(1, (width, num_projected))
        return torch.bmm(left_BPD, right_BDP).flatten(1)
