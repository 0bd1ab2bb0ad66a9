"""Which process keeps which part of each table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharding_spec.api import EnumerableShardingSpec
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.types import ParameterSharding
from torchrec.modules.embedding_configs import BaseEmbeddingConfig

from dlrm.config.sharding import Strategy


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a table on one process."""

    rank: int
    first_row: int
    num_rows: int
    first_column: int
    num_columns: int

    @property
    def rows(self) -> slice:
        """The part's rows of the table."""
        return slice(self.first_row, self.first_row + self.num_rows)

    @property
    def columns(self) -> slice:
        """The part's columns of the table."""
        return slice(self.first_column, self.first_column + self.num_columns)


def place_tables(
    configs: Sequence[BaseEmbeddingConfig],
    strategies: Mapping[str, Strategy],
    world_size: int,
) -> dict[str, list[Part]]:
    """Return each table's parts; those of a data-parallel table are whole replicas.

    Whole tables go to the process with the least so far, the largest first, so that
    every process computes the same placement.

    Args:
        configs: Of tables with distinct names.
        strategies: By name of the config.
        world_size: The number of processes.
    """
    load = [0] * world_size
    parts: dict[str, list[Part]] = {}
    by_size = sorted(configs, key=lambda c: -c.num_embeddings * c.embedding_dim)
    for config in by_size:
        parts[config.name] = _place(config, strategies[config.name], load)
        for part in parts[config.name]:
            load[part.rank] += part.num_rows * part.num_columns
    return {config.name: parts[config.name] for config in configs}


def _place(
    config: BaseEmbeddingConfig, strategy: Strategy, load: list[int]
) -> list[Part]:
    rows, dim, world_size = config.num_embeddings, config.embedding_dim, len(load)
    match strategy:
        case Strategy.table_wise:
            return [Part(load.index(min(load)), 0, rows, 0, dim)]
        case Strategy.row_wise:
            # torchrec sends id i to process i // block: the last ones may hold fewer
            # rows, or none.
            block = -(-rows // world_size)
            starts = [min(rank * block, rows) for rank in range(world_size + 1)]
            return [
                Part(rank, starts[rank], starts[rank + 1] - starts[rank], 0, dim)
                for rank in range(world_size)
            ]
        case Strategy.column_wise:
            width = dim // world_size
            return [
                Part(rank, 0, rows, rank * width, width) for rank in range(world_size)
            ]
        case Strategy.data_parallel:
            return [Part(rank, 0, rows, 0, dim) for rank in range(world_size)]


def torchrec_sharding(
    strategy: Strategy, parts: Sequence[Part], *, device: torch.device
) -> ParameterSharding:
    """Return a table's placement in torchrec's words."""
    shards = [
        ShardMetadata(
            shard_offsets=[part.first_row, part.first_column],
            shard_sizes=[part.num_rows, part.num_columns],
            placement=f"rank:{part.rank}/{_device_of(part.rank, device)}",
        )
        for part in parts
    ]
    return ParameterSharding(
        sharding_type=strategy.value,
        # The kernel is ours: torchrec then leaves the tables' state alone.
        compute_kernel=EmbeddingComputeKernel.CUSTOMIZED_KERNEL.value,
        ranks=[part.rank for part in parts],
        sharding_spec=EnumerableShardingSpec(shards),
    )


def _device_of(rank: int, device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"cuda:{rank % torch.cuda.device_count()}"
