"""A collection of pooled tables of one process, updated inside its backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Storage
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.local_tables import LocalTables


class LocalEmbeddingBagCollection(nn.Module):
    """A drop-in for torchrec's ``EmbeddingBagCollection`` that trains itself.

    In training mode, backward updates the rows in use at once; no gradient remains.
    In evaluation mode, or without gradients, nothing changes. Input, output keys and
    state-dict names are those of the collection it stands for. ``load_state_dict``
    writes into the tables.
    """

    def __init__(
        self,
        tables: list[EmbeddingBagConfig],
        *,
        is_weighted: bool,
        optimizer: SparseOptimizer,
        device: torch.device,
        kernel: Kernel | None = None,
        trainable: bool = True,
        storage: Storage | None = None,
    ) -> None:
        """Allocate tables of zeros; arguments and errors are ``build_kernels``'s."""
        super().__init__()
        self._tables, self._is_weighted = tables, is_weighted
        self._local = LocalTables(
            tables,
            is_weighted=is_weighted,
            optimizer=optimizer,
            device=device,
            kernel=kernel,
            trainable=trainable,
            storage=storage,
        )
        self.kernels = self._local.kernels
        self.embedding_bags = self._local.rows()
        self._keys = [name for table in tables for name in table.feature_names]
        self._widths = [t.embedding_dim for t in tables for _ in t.feature_names]

    def forward(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """Return each feature's pooled vectors, keyed by feature.

        Raises:
            DataError: An id is out of its table's range.
        """
        parts = self._local.look_up(features, training=self.training)
        values = self._in_order([vectors for _, vectors in parts])
        return KeyedTensor(keys=self._keys, length_per_key=self._widths, values=values)

    def embedding_bag_configs(self) -> list[EmbeddingBagConfig]:
        """Return the tables' configs, as torchrec's collection does."""
        return self._tables

    def is_weighted(self) -> bool:
        """Say whether ids come with weights, as torchrec's collection does."""
        return self._is_weighted

    def _in_order(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Bring the kernels' vectors into the order of the keys, side by side."""
        if len(parts) == 1 and self._local.features[0] == self._keys:
            return parts[0]
        vectors: dict[str, torch.Tensor] = {}
        places = zip(self.kernels, self._local.features, parts, strict=True)
        for bags, names, part in places:
            widths = [t.embedding_dim for t in bags.tables for _ in t.feature_names]
            vectors.update(zip(names, torch.split(part, widths, dim=1), strict=True))
        return torch.cat([vectors[key] for key in self._keys], dim=1)

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
    ) -> LocalEmbeddingBagCollection:
        self._local.refuse_move(fn)
        return self
