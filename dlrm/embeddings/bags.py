"""What a kernel is: some tables of one collection, looked up and trained in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from dlrm.embeddings.kernel_options import TableConfig


class Bags(Protocol):
    """Tables of equal options behind one lookup, updated inside its backward pass.

    Its features are those of its tables, table by table.
    """

    tables: list[TableConfig]
    step: int
    """Steps taken so far, as bias correction counts them."""

    def pooled(
        self,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the features' pooled vectors side by side, [batch, sum of widths].

        Where nothing is pooled, one vector an id, [N, width], in the order of the ids.

        Args:
            ids: [N] int32 or int64, feature by feature, then example by example.
            offsets: [features * batch + 1], where each bag starts, and N.
            weights: [N] factors of the ids, for weighted collections.
        """

    def weight(self, index: int) -> torch.Tensor:
        """Return a live view of table ``index``'s rows, [num_embeddings, dim].

        It is current, and may be written into, until the next lookup; ``settle`` makes
        it so again.
        """

    def settle(self) -> None:
        """Write rows that are cached elsewhere back to where ``weight`` views them.

        Not between a forward pass and its backward pass.
        """

    def optimizer_state(self, index: int) -> dict[str, torch.Tensor]:
        """Return live views of table ``index``'s optimizer state, by canonical name."""

    def counters(self, index: int) -> dict[str, torch.Tensor]:
        """Return live views of what lookups of table ``index`` depend on, by name.

        ``uses``: lookups in training so far, int32 [rows], where they admit rows.
        """

    def set_rate_factor(self, factor: float) -> None:
        """Train with ``factor`` times the learning rate from the next lookup on."""


def table_of_feature(tables: Sequence[TableConfig]) -> list[int]:
    """Return the index into ``tables`` of each feature, in the kernel's order."""
    return [i for i, table in enumerate(tables) for _ in table.feature_names]
