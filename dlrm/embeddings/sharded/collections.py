"""torchrec's sharded collections around the tables that train themselves.

torchrec exchanges ids, vectors and gradients; what it calls between the exchanges is
the same collection that one process trains, over this process's parts of the tables.
Gradients arrive as their mean over the processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torchrec.distributed.embedding import ShardedEmbeddingCollection
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.distributed.types import ShardingEnv
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Strategy
from dlrm.embeddings.collection import LocalEmbeddingBagCollection
from dlrm.embeddings.row_collection import LocalEmbeddingCollection
from dlrm.embeddings.sharded.input_check import check_input
from dlrm.embeddings.sharded.lookups import BagLookup, SequenceLookup
from dlrm.embeddings.sharded.parts import part_config
from dlrm.embeddings.sharded.placement import Part, torchrec_sharding
from dlrm.embeddings.sharded.row_means import RowMeans, summed


class ShardedBags(ShardedEmbeddingBagCollection):
    """A sharded ``EmbeddingBagCollection`` that trains itself."""

    def __init__(
        self,
        configs: Sequence[EmbeddingBagConfig],
        *,
        is_weighted: bool,
        strategies: Mapping[str, Strategy],
        parts: Mapping[str, Sequence[Part]],
        env: ShardingEnv,
        device: torch.device,
        optimizer: SparseOptimizer,
        trainable: bool = True,
    ) -> None:
        """Allocate this process's parts, zeros."""
        self.configs = list(configs)
        self.strategies = {c.name: strategies[c.name] for c in configs}
        self.parts = {c.name: parts[c.name] for c in configs}
        self._means = RowMeans(
            configs, strategies, optimizer=optimizer, world_size=env.world_size
        )
        looked_up = [summed(config, strategies[config.name]) for config in configs]
        plain = EmbeddingBagCollection(
            tables=looked_up, is_weighted=is_weighted, device=torch.device("meta")
        )
        plan = _torchrec_plan(self.strategies, self.parts, device)
        super().__init__(plain, plan, env, device=device)
        for sharding in self._embedding_shardings:
            own = _own_configs(looked_up, self.parts, sharding, env.rank)
            tables = LocalEmbeddingBagCollection(
                own,
                is_weighted=is_weighted,
                optimizer=optimizer,
                device=device,
                trainable=trainable,
            )
            self._lookups.append(BagLookup(tables if own else None, device=device))

    @property
    def own_tables(self) -> list[LocalEmbeddingBagCollection]:
        """The collections of this process's parts."""
        return [lookup.tables for lookup in self._lookups if lookup.tables is not None]

    def input_dist(self, ctx: Any, features: KeyedJaggedTensor) -> Any:
        """Send every id to the process that keeps its row.

        Raises:
            DataError: An id is out of its table's range.
            ConfigError: The ids' weights want a gradient.
        """
        check_input(features, self.configs, tuple(self.strategies.values()))
        if self._means:
            ctx.divisor = self._means.divisors(features)
        return super().input_dist(ctx, features)

    def output_dist(self, ctx: Any, output: Any) -> Any:
        """Send every vector where its bag came from."""
        return self._with_means(ctx, super().output_dist(ctx, output))

    def compute_and_output_dist(self, ctx: Any, input: Any) -> Any:
        """Look up, and send every vector where its bag came from."""
        return self._with_means(ctx, super().compute_and_output_dist(ctx, input))

    def reset_parameters(self) -> None:
        """Leave the tables alone: their initial values are not torchrec's to choose."""

    def _create_lookups(self) -> None:
        """Leave the lookups to ``__init__``: torchrec's would allocate the tables."""

    def _with_means(self, ctx: Any, travelling: Any) -> Any:
        if self._means:
            divide = partial(self._means.divide, divisors_FB=ctx.divisor)
            travelling.callbacks.append(divide)
        return travelling


class ShardedSequences(ShardedEmbeddingCollection):
    """A sharded ``EmbeddingCollection`` that trains itself."""

    def __init__(
        self,
        configs: Sequence[EmbeddingConfig],
        *,
        strategies: Mapping[str, Strategy],
        parts: Mapping[str, Sequence[Part]],
        env: ShardingEnv,
        device: torch.device,
        optimizer: SparseOptimizer,
        trainable: bool = True,
    ) -> None:
        """Allocate this process's parts, zeros."""
        self.configs = list(configs)
        self.strategies = {c.name: strategies[c.name] for c in configs}
        self.parts = {c.name: parts[c.name] for c in configs}
        plain = EmbeddingCollection(tables=list(configs), device=torch.device("meta"))
        plan = _torchrec_plan(self.strategies, self.parts, device)
        super().__init__(plain, plan, env, device=device)
        for sharding in self._sharding_type_to_sharding.values():
            own = _own_configs(configs, self.parts, sharding, env.rank)
            tables = LocalEmbeddingCollection(
                own, optimizer=optimizer, device=device, trainable=trainable
            )
            self._lookups.append(SequenceLookup(tables if own else None, device=device))

    @property
    def own_tables(self) -> list[LocalEmbeddingCollection]:
        """The collections of this process's parts."""
        return [lookup.tables for lookup in self._lookups if lookup.tables is not None]

    def input_dist(self, ctx: Any, features: KeyedJaggedTensor) -> Any:
        """Send every id to the process that keeps its row.

        Raises:
            DataError: An id is out of its table's range.
        """
        check_input(features, self.configs, tuple(self.strategies.values()))
        return super().input_dist(ctx, features)

    def reset_parameters(self) -> None:
        """Leave the tables alone: their initial values are not torchrec's to choose."""

    def _create_lookups(self) -> None:
        """Leave the lookups to ``__init__``: torchrec's would allocate the tables."""


def _torchrec_plan(
    strategies: Mapping[str, Strategy],
    parts: Mapping[str, Sequence[Part]],
    device: torch.device,
) -> dict[str, Any]:
    return {
        name: torchrec_sharding(strategy, parts[name], device=device)
        for name, strategy in strategies.items()
    }


def _own_configs(
    configs: Sequence[Any],
    parts: Mapping[str, Sequence[Part]],
    sharding: Any,
    rank: int,
) -> list[Any]:
    """Return this process's tables of one strategy, in the order of torchrec's ids."""
    whole = {config.name: config for config in configs}
    names = [
        table.name
        for group in sharding._grouped_embedding_configs
        for table in group.embedding_tables
    ]
    own = {name: [p for p in parts[name] if p.rank == rank] for name in names}
    return [part_config(whole[name], part) for name in names for part in own[name]]
