"""From one plain collection to the same tables over several processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torchrec.distributed.types import ShardingEnv
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import CommunicationConfig, Strategy
from dlrm.distributed.plan import TablePlan
from dlrm.embeddings.collection import LocalEmbeddingBagCollection
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.row_collection import LocalEmbeddingCollection
from dlrm.embeddings.sharded.collections import ShardedBags, ShardedSequences
from dlrm.embeddings.sharded.placement import COLUMNS_ALONE
from dlrm.embeddings.sharded.replicas import ReplicatedBags, ReplicatedSequences
from dlrm.embeddings.sharded.split import SplitBags, SplitSequences


@dataclass(frozen=True, kw_only=True, slots=True)
class Building:
    """What all collections of a model are sharded with."""

    tables: Mapping[str, TablePlan]
    """By name of the table's config."""
    ranks_per_node: int
    communication: CommunicationConfig
    optimizer: SparseOptimizer
    group: dist.ProcessGroup
    """Keeps all tables together."""
    world: dist.ProcessGroup
    """Has a replica of each data-parallel table on every process."""
    device: torch.device
    trainable: bool

    def of(
        self, plain: EmbeddingBagCollection | EmbeddingCollection
    ) -> SplitBags | SplitSequences:
        """Return the collection's tables over the processes, zeros."""
        if isinstance(plain, EmbeddingBagCollection):
            return self._bags(plain)
        return self._sequences(plain)

    def _bags(self, plain: EmbeddingBagCollection) -> SplitBags:
        configs, weighted = plain.embedding_bag_configs(), plain.is_weighted()
        cut, whole = self._divide(configs)
        sharded = replicated = None
        if cut:
            sharded = ShardedBags(
                cut,
                is_weighted=weighted,
                tables=self.tables,
                ranks_per_node=self.ranks_per_node,
                communication=self.communication,
                env=ShardingEnv.from_process_group(self.group),
                **self._memory(),
            )
        if whole:
            tables = LocalEmbeddingBagCollection(
                whole, is_weighted=weighted, kernel=Kernel.torch, **self._memory()
            )
            replicated = ReplicatedBags(tables, self.world)
        return SplitBags(
            configs, is_weighted=weighted, sharded=sharded, replicated=replicated
        )

    def _sequences(self, plain: EmbeddingCollection) -> SplitSequences:
        configs = plain.embedding_configs()
        cut, whole = self._divide(configs)
        sharded = [
            ShardedSequences(
                tables,
                tables=self.tables,
                communication=self.communication,
                env=ShardingEnv.from_process_group(self.group),
                **self._memory(),
            )
            for tables in self._by_width(cut)
        ]
        replicated = None
        if whole:
            tables = LocalEmbeddingCollection(
                whole, kernel=Kernel.torch, **self._memory()
            )
            replicated = ReplicatedSequences(tables, self.world)
        return SplitSequences(configs, sharded=sharded, replicated=replicated)

    def _by_width(self, configs: list[Any]) -> list[list[Any]]:
        """Return what goes into one collection: its ranges of columns are alike."""
        groups: dict[int, list[Any]] = {}
        others: list[Any] = []
        for config in configs:
            table = self.tables[config.name]
            if table.strategy in COLUMNS_ALONE:
                width = table.parts[0].num_columns
                groups.setdefault(width, []).append(config)
            else:
                others.append(config)
        first, *rest = list(groups.values()) or [[]]
        return [group for group in (others + first, *rest) if group]

    def _divide(self, configs: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return the tables that are cut into parts, and those that are replicated."""
        replicas = [
            self.tables[config.name].strategy is Strategy.data_parallel
            for config in configs
        ]
        pairs = list(zip(configs, replicas, strict=True))
        cut = [config for config, replica in pairs if not replica]
        return cut, [config for config, replica in pairs if replica]

    def _memory(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer,
            "device": self.device,
            "trainable": self.trainable,
        }
