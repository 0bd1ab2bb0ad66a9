"""Rows that count only once they have been looked up often enough.

Shape suffixes: N = rows, perhaps with repeats; U = rows, each once; R = all rows.
"""

from __future__ import annotations

import torch


class Admission:
    """Counts the lookups of rows in training; admits those with enough of them."""

    def __init__(self, num_rows: int, *, after: int, device: torch.device) -> None:
        """Start with no lookup of any row."""
        self.uses = torch.zeros(num_rows, dtype=torch.int32, device=device)
        """[R]; stops counting at the largest int32."""
        self._after = after

    def admitted(self, rows: torch.Tensor) -> torch.Tensor:
        """Say which ``rows`` [N] count, by the lookups of the steps so far."""
        return self.uses.index_select(0, rows) >= self._after

    def count(self, rows: torch.Tensor, num_uses: torch.Tensor) -> None:
        """Add one step's lookups: ``rows`` [U] and how often each was used, [U]."""
        total = self.uses.index_select(0, rows) + num_uses.long()
        limit = torch.iinfo(torch.int32).max
        self.uses.index_copy_(0, rows, total.clamp_(max=limit).int())
