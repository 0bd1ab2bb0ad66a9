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
        """Do nothing: a lookup fills its tables' cache itself."""

    def flush(self) -> None:
        """Do nothing: whoever reads a table has its cache written back first."""

    def purge(self) -> None:
        """Do nothing: see ``flush``."""


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
        configs = [] if tables is None else tables.embedding_bag_configs()
        self._names = [name for config in configs for name in config.feature_names]

    def forward(self, features: KeyedJaggedTensor) -> torch.Tensor:
        """Return [B, D], feature by feature."""
        empty = self._anchor.view(features.stride(), 0)
        if self.tables is None:
            return empty
        own = _renamed(features, self._names)
        return torch.cat([self.tables(own).values(), empty], dim=1)


class SequenceLookup(_Lookup):
    """Vectors, one an id, of this process's parts."""

    def __init__(
        self, tables: LocalEmbeddingCollection | None, *, device: torch.device | None
    ) -> None:
        """Look up in ``tables``; None on a process that keeps none."""
        super().__init__(device)
        self.tables = tables
        configs = [] if tables is None else tables.embedding_configs()
        self._names = [name for config in configs for name in config.feature_names]

    def forward(self, features: KeyedJaggedTensor) -> torch.Tensor:
        """Return [N * D], feature by feature."""
        if self.tables is None:
            return self._anchor
        vectors = self.tables(_renamed(features, self._names))
        parts = [vectors[name].values().flatten() for name in self._names]
        return torch.cat([*parts, self._anchor])


def _renamed(features: KeyedJaggedTensor, names: list[str]) -> KeyedJaggedTensor:
    """Return ``features`` under the names that the parts' configs have for them.

    Several ranges of a table's columns are sent the same feature, each on its own.
    """
    if features.keys() == names:
        return features
    return KeyedJaggedTensor(
        keys=names,
        values=features.values(),
        weights=features.weights_or_none(),
        lengths=features.lengths(),
        offsets=features.offsets(),
        stride=features.stride(),
        length_per_key=features.length_per_key(),
    )
