"""One process's parts of many tables, between torchrec's exchanges of ids and vectors.

Shape suffixes: B = the union batch, N = ids, D = the widths of all features together.
"""

from __future__ import annotations

import torch
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.embeddings.collection import LocalEmbeddingBagCollection
from dlrm.embeddings.row_collection import LocalEmbeddingCollection


class _Lookup(nn.Module):
    """What torchrec's sharded modules call between their exchanges."""

    def __init__(self, device: torch.device | None) -> None:
        super().__init__()
        # A process without tables, or with frozen ones alone, must still take part in
        # the exchange of gradients: its output has to want one.
        self._anchor = torch.zeros(0, device=device, requires_grad=True)

    def wait_for_forward(self) -> None:
        """Do nothing: no kernel here runs on a stream of its own."""

    def prefetch(self, *args: object, **kwargs: object) -> None:
        """Do nothing: no table here has a cache."""

    def flush(self) -> None:
        """Do nothing: no table here has a cache."""

    def purge(self) -> None:
        """Do nothing: no table here has a cache."""


class BagLookup(_Lookup):
    """Pooled vectors of this process's parts."""

    def __init__(
        self,
        tables: LocalEmbeddingBagCollection | None,
        *,
        device: torch.device | None,
    ) -> None:
        """Look up in ``tables``; None on a process that keeps none."""
        super().__init__(device)
        self.tables = tables

    def forward(self, features: KeyedJaggedTensor) -> torch.Tensor:
        """Return [B, D], feature by feature."""
        empty = self._anchor.view(features.stride(), 0)
        if self.tables is None:
            return empty
        return torch.cat([self.tables(features).values(), empty], dim=1)


class SequenceLookup(_Lookup):
    """Vectors, one an id, of this process's parts."""

    def __init__(
        self, tables: LocalEmbeddingCollection | None, *, device: torch.device | None
    ) -> None:
        """Look up in ``tables``; None on a process that keeps none."""
        super().__init__(device)
        self.tables = tables

    def forward(self, features: KeyedJaggedTensor) -> torch.Tensor:
        """Return [N * D], feature by feature."""
        if self.tables is None:
            return self._anchor
        vectors = self.tables(features)
        parts = [vectors[name].values().flatten() for name in features.keys()]  # noqa: SIM118
        return torch.cat([*parts, self._anchor])
