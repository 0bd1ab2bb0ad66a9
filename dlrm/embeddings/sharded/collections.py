"""torchrec's sharded collections around the tables that train themselves.

torchrec exchanges ids, vectors and gradients; what it calls between the exchanges is
the same collection that one process trains, over this process's parts of the tables.
Gradients arrive as their mean over the processes.
"""

from __future__ import annotations

import contextlib
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
from dlrm.config.sharding import CommunicationConfig, Strategy
from dlrm.distributed.plan import TablePlan
from dlrm.embeddings.collection import LocalEmbeddingBagCollection
from dlrm.embeddings.row_collection import LocalEmbeddingCollection
from dlrm.embeddings.sharded.communication import Codecs, codecs_for
from dlrm.embeddings.sharded.input_check import check_input
from dlrm.embeddings.sharded.lookups import BagLookup, SequenceLookup
from dlrm.embeddings.sharded.node_groups import exchanging_over_nodes
from dlrm.embeddings.sharded.parts import OwnPart, own_parts, placed_config
from dlrm.embeddings.sharded.placement import ROWS_OF_NODE, torchrec_sharding
from dlrm.embeddings.sharded.row_means import RowMeans, summed


class ShardedBags(ShardedEmbeddingBagCollection):
    """A sharded ``EmbeddingBagCollection`` that trains itself."""

    def __init__(
        self,
        configs: Sequence[EmbeddingBagConfig],
        *,
        is_weighted: bool,
        tables: Mapping[str, TablePlan],
        ranks_per_node: int,
        communication: CommunicationConfig,
        env: ShardingEnv,
        device: torch.device,
        optimizer: SparseOptimizer,
        trainable: bool = True,
    ) -> None:
        """Allocate this process's parts, zeros."""
        self.configs = list(configs)
        self.strategies = {c.name: tables[c.name].strategy for c in configs}
        self._means = RowMeans(
            configs, self.strategies, optimizer=optimizer, world_size=env.world_size
        )
        looked_up = [summed(c, self.strategies[c.name]) for c in configs]
        plain = EmbeddingBagCollection(
            tables=looked_up, is_weighted=is_weighted, device=torch.device("meta")
        )
        plan = _torchrec_plan(self.configs, tables, device)
        codecs = _codecs(self.configs, tables, communication)
        with _exchanges(self.strategies, env, ranks_per_node):
            super().__init__(
                plain, plan, env, device=device, qcomm_codecs_registry=codecs
            )
        self.own_parts: dict[str, OwnPart[EmbeddingBagConfig]] = {}
        """By name of the part's config, which ``own_tables`` hold."""
        wholes = {c.name: placed_config(c, tables[c.name]) for c in looked_up}
        for sharding in self._embedding_shardings:
            own = own_parts(wholes, sharding, env.rank)
            self.own_parts.update({part.config.name: part for part in own})
            local = LocalEmbeddingBagCollection(
                [part.config for part in own],
                is_weighted=is_weighted,
                optimizer=optimizer,
                device=device,
                trainable=trainable,
            )
            self._lookups.append(BagLookup(local if own else None, device=device))

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
        tables: Mapping[str, TablePlan],
        communication: CommunicationConfig,
        env: ShardingEnv,
        device: torch.device,
        optimizer: SparseOptimizer,
        trainable: bool = True,
    ) -> None:
        """Allocate this process's parts, zeros.

        All ranges of columns are equally wide: so torchrec has it.
        """
        self.configs = list(configs)
        self.strategies = {c.name: tables[c.name].strategy for c in configs}
        plain = EmbeddingCollection(tables=self.configs, device=torch.device("meta"))
        plan = _torchrec_plan(self.configs, tables, device)
        codecs = _codecs(self.configs, tables, communication)
        super().__init__(plain, plan, env, device=device, qcomm_codecs_registry=codecs)
        self.own_parts: dict[str, OwnPart[EmbeddingConfig]] = {}
        """By name of the part's config, which ``own_tables`` hold."""
        wholes = {c.name: placed_config(c, tables[c.name]) for c in configs}
        for sharding in self._sharding_type_to_sharding.values():
            own = own_parts(wholes, sharding, env.rank)
            self.own_parts.update({part.config.name: part for part in own})
            local = LocalEmbeddingCollection(
                [part.config for part in own],
                optimizer=optimizer,
                device=device,
                trainable=trainable,
            )
            self._lookups.append(SequenceLookup(local if own else None, device=device))

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
    configs: Sequence[Any], tables: Mapping[str, TablePlan], device: torch.device
) -> dict[str, Any]:
    return {
        config.name: torchrec_sharding(tables[config.name], device=device)
        for config in configs
    }


def _codecs(
    configs: Sequence[Any],
    tables: Mapping[str, TablePlan],
    communication: CommunicationConfig,
) -> Codecs | None:
    parts = [part for config in configs for part in tables[config.name].parts]
    return codecs_for(communication, [part.num_columns for part in parts])


def _exchanges(
    strategies: Mapping[str, Strategy], env: ShardingEnv, ranks_per_node: int
) -> contextlib.AbstractContextManager[None]:
    """Return where torchrec builds what exchanges the vectors of tables."""
    if ROWS_OF_NODE.isdisjoint(strategies.values()):
        return contextlib.nullcontext()
    assert env.process_group is not None
    return exchanging_over_nodes(env.process_group, ranks_per_node)
