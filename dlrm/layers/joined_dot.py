"""What DLRM's top MLP reads under the dot interaction, as one matrix.

Shape suffixes: B = batch, D = width of a vector, I = widths of the others together,
O = columns of the result.
"""

from __future__ import annotations

import torch
from torch import nn

from dlrm.layers.dot_interaction import DotInteraction
from dlrm.layers.native_pairs import native_pairs


class JoinedDot(nn.Module):
    """Kept vectors, the dot products of all pairs, and columns of zeros.

    The first ``num_kept`` of the vectors are kept. On a CPU all of it is written in
    one pass over a row, without joining the vectors first.
    """

    def __init__(self, num_vectors: int, *, num_kept: int, padding: int) -> None:
        super().__init__()
        self.pairs = DotInteraction(num_vectors)
        self.num_vectors, self.num_kept = num_vectors, num_kept
        self.padding = padding

    def forward(
        self, others_BI: torch.Tensor, first_BD: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return [B, O]; ``first_BD``, if any, stands before the other vectors."""
        num_others = self.num_vectors - (first_BD is not None)
        width = others_BI.shape[1] // num_others
        found = native_pairs(
            first_BD,
            others_BI,
            width=width,
            num_kept=self.num_kept,
            padding=self.padding,
        )
        return self._by_torch(others_BI, first_BD) if found is None else found

    def _by_torch(
        self, others_BI: torch.Tensor, first_BD: torch.Tensor | None
    ) -> torch.Tensor:
        joined = others_BI
        if first_BD is not None:
            joined = torch.cat([first_BD, others_BI], dim=1)
        x_BFD = joined.unflatten(1, (self.num_vectors, -1))
        kept = x_BFD[:, : self.num_kept].flatten(1)
        zeros = joined.new_zeros(joined.shape[0], self.padding)
        return torch.cat([kept, self.pairs(x_BFD), zeros], dim=1)
