"""A collection of tables whose rows are looked up one by one, updated in backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingConfig
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Storage
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.local_tables import LocalTables


class LocalEmbeddingCollection(nn.Module):
    """A drop-in for torchrec's ``EmbeddingCollection`` that trains itself.

    What ``LocalEmbeddingBagCollection`` says of training, evaluation and names holds
    here too. Weights of ids are not read.
    """

    def __init__(
        self,
        tables: list[EmbeddingConfig],
        *,
        optimizer: SparseOptimizer,
        device: torch.device,
        kernel: Kernel | None = None,
        trainable: bool = True,
        need_indices: bool = False,
        storage: Storage | None = None,
    ) -> None:
        """Allocate tables of zeros; arguments and errors are ``build_kernels``'s.

        ``need_indices`` gives the ids as the vectors' weights, as torchrec does.
        """
        super().__init__()
        self._tables, self._need_indices = tables, need_indices
        self._local = LocalTables(
            tables,
            is_weighted=False,
            optimizer=optimizer,
            device=device,
            kernel=kernel,
            trainable=trainable,
            storage=storage,
        )
        self.kernels = self._local.kernels
        self.embeddings = self._local.rows()
        self._keys = [name for table in tables for name in table.feature_names]

    def forward(self, features: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
        """Return each feature's vectors, one an id, [ids, width], in the ids' order.

        Raises:
            DataError: An id is out of its table's range.
        """
        found: dict[str, JaggedTensor] = {}
        for ids, vectors in self._local.look_up(features, training=self.training):
            found.update(self._by_feature(ids, vectors))
        return {key: found[key] for key in self._keys}

    def embedding_configs(self) -> list[EmbeddingConfig]:
        """Return the tables' configs, as torchrec's collection does."""
        return self._tables

    def embedding_dim(self) -> int:
        """Return the tables' width, as torchrec's collection does."""
        return self._tables[0].embedding_dim

    def need_indices(self) -> bool:
        """Say whether ids come as weights, as torchrec's collection does."""
        return self._need_indices

    def _by_feature(
        self, ids: KeyedJaggedTensor, vectors: torch.Tensor
    ) -> dict[str, JaggedTensor]:
        """Cut the vectors of one kernel's features apart."""
        names = ids.keys()
        lengths = ids.lengths().view(len(names), -1)
        counts = ids.length_per_key()
        indices = [None] * len(names)
        if self._need_indices:
            indices = ids.values().split(counts)
        places = zip(names, vectors.split(counts), lengths, indices, strict=True)
        return {
            name: JaggedTensor(values=values, lengths=length, weights=index)
            for name, values, length, index in places
        }

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
    ) -> LocalEmbeddingCollection:
        self._local.refuse_move(fn)
        return self
