"""What a kernel is: some tables of one collection, looked up and trained in one go."""

from __future__ import annotations

from typing import Protocol

import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig


class Bags(Protocol):
    """Tables of one pooling behind one lookup, updated inside its backward pass.

    Its features are those of its tables, table by table.
    """

    tables: list[EmbeddingBagConfig]
    step: int
    """Steps taken so far, as bias correction counts them."""

    def pooled(
        self,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the features' pooled vectors side by side, [batch, sum of widths].

        Args:
            ids: [N] int32 or int64, feature by feature, then example by example.
            offsets: [features * batch + 1], where each bag starts, and N.
            weights: [N] factors of the ids, for weighted collections.
        """

    def weight(self, index: int) -> torch.Tensor:
        """Return a live view of table ``index``'s rows, [num_embeddings, dim]."""

    def optimizer_state(self, index: int) -> dict[str, torch.Tensor]:
        """Return live views of table ``index``'s optimizer state, by canonical name."""

    def set_learning_rate(self, lr: float) -> None:
        """Use ``lr`` from the next lookup on."""


def table_of_feature(tables: list[EmbeddingBagConfig]) -> list[int]:
    """Return the index into ``tables`` of each feature, in the kernel's order."""
    return [i for i, table in enumerate(tables) for _ in table.feature_names]
