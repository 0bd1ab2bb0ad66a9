"""What stands for one collection: its sharded tables and its data-parallel ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.fx
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor, KeyedTensor

from dlrm.embeddings.sharded.collections import ShardedBags, ShardedSequences
from dlrm.embeddings.sharded.replicas import ReplicatedBags, ReplicatedSequences

_META = torch.device("meta")


class SplitBags(nn.Module):
    """An ``EmbeddingBagCollection`` over several processes."""

    def __init__(
        self,
        configs: Sequence[EmbeddingBagConfig],
        *,
        is_weighted: bool,
        sharded: ShardedBags | None,
        replicated: ReplicatedBags | None,
    ) -> None:
        """Answer for both, of which one may be missing."""
        super().__init__()
        self._configs, self._is_weighted = list(configs), is_weighted
        self.sharded, self.replicated = sharded, replicated

    def forward(self, features: KeyedJaggedTensor) -> KeyedTensor:
        """Return each feature's pooled vectors, keyed by feature."""
        if self.sharded is None or self.replicated is None:
            only = self.sharded or self.replicated
            assert only is not None
            return only(features)
        # The replicas are looked up while the others' vectors are under way.
        travelling = self.sharded(features)
        return join_vectors(travelling, self.replicated(features))

    def embedding_bag_configs(self) -> list[EmbeddingBagConfig]:
        """Return the tables' configs, as torchrec's collection does."""
        return self._configs

    def plain(self) -> EmbeddingBagCollection:
        """Return torchrec's collection of the tables, without memory."""
        return EmbeddingBagCollection(
            tables=self._configs, is_weighted=self._is_weighted, device=_META
        )


class SplitSequences(nn.Module):
    """An ``EmbeddingCollection`` over several processes."""

    def __init__(
        self,
        configs: Sequence[EmbeddingConfig],
        *,
        sharded: Sequence[ShardedSequences],
        replicated: ReplicatedSequences | None,
    ) -> None:
        """Answer for all of them."""
        super().__init__()
        self._configs = list(configs)
        self.sharded, self.replicated = nn.ModuleList(sharded), replicated

    def forward(self, features: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
        """Return each feature's vectors, one an id, keyed by feature."""
        # The replicas are looked up while the others' vectors are under way.
        found = [sharded(features) for sharded in self.sharded]
        if self.replicated is not None:
            found.append(self.replicated(features))
        return found[0] if len(found) == 1 else join_sequences(found)

    def embedding_configs(self) -> list[EmbeddingConfig]:
        """Return the tables' configs, as torchrec's collection does."""
        return self._configs

    def plain(self) -> EmbeddingCollection:
        """Return torchrec's collection of the tables, without memory."""
        return EmbeddingCollection(tables=self._configs, device=_META)


# One node each to torch.fx, which traces a model for its pipeline and cannot see into
# vectors that are still to come.
@torch.fx.wrap
def join_vectors(travelling: KeyedTensor, own: KeyedTensor) -> KeyedTensor:
    """Return the features of both side by side."""
    return KeyedTensor(
        keys=[*travelling.keys(), *own.keys()],
        length_per_key=[*travelling.length_per_key(), *own.length_per_key()],
        values=torch.cat([travelling.values(), own.values()], dim=1),
    )


@torch.fx.wrap
def join_sequences(found: list[dict[str, JaggedTensor]]) -> dict[str, JaggedTensor]:
    """Return the features of all."""
    return {name: rows for part in found for name, rows in part.items()}
