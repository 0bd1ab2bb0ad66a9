"""Which process keeps which part of each table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharding_spec.api import EnumerableShardingSpec
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.types import ParameterSharding, ShardingType
from torchrec.modules.embedding_configs import EmbeddingBagConfig

from dlrm.config.checks import require
from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Storage, Strategy
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.names import table_name
from dlrm.embeddings.table_config import options_of

_TORCHREC = {
    Strategy.table_wise: ShardingType.TABLE_WISE,
    Strategy.row_wise: ShardingType.ROW_WISE,
    Strategy.column_wise: ShardingType.COLUMN_WISE,
    Strategy.table_row_wise: ShardingType.TABLE_ROW_WISE,
    # What travels is the same; torchrec would keep the two apart, and has no such thing
    # for rows that are looked up one by one.
    Strategy.table_column_wise: ShardingType.COLUMN_WISE,
    Strategy.grid: ShardingType.GRID_SHARD,
    Strategy.data_parallel: ShardingType.DATA_PARALLEL,
}
ROWS_OF_NODE = frozenset({Strategy.table_row_wise, Strategy.grid})
"""Strategies that divide rows over the processes of one node."""
COLUMNS_ALONE = frozenset({Strategy.column_wise, Strategy.table_column_wise})
"""Strategies that divide columns and no rows."""
BY_COLUMNS = COLUMNS_ALONE | {Strategy.grid}
OF_NODES = ROWS_OF_NODE | {Strategy.table_column_wise}
_FUSED_WIDTH = 4
"""fbgemm's kernels serve tables whose widths are its multiples."""


def plan_by_strategy(
    configs: Sequence[TableConfig],
    strategies: Mapping[str, Strategy],
    default: Strategy,
    *,
    world_size: int,
    ranks_per_node: int,
    num_column_shards: Mapping[str, int] | None = None,
) -> Plan:
    """Return where tables lie whose strategies are given.

    What a strategy leaves open goes to the process, or node, with the least so far, the
    largest table first, so that every process computes the same plan.

    Args:
        configs: Of tables with distinct names.
        strategies: By the table's name.
        default: Of tables that ``strategies`` does not name.
        world_size: The number of processes.
        ranks_per_node: Processes of a machine.
        num_column_shards: Ranges of columns by the table's name. Without, and under
            ``grid``, one a process, or node; as many as there are columns at most.

    Raises:
        ConfigError: A strategy is given for no table, nodes have different numbers of
            processes, or a table has too few columns.
    """
    chosen = dict.fromkeys([table_name(config.name) for config in configs], default)
    _refuse_unknown({**strategies, **(num_column_shards or {})}, chosen)
    chosen.update(strategies)
    placing = _Placing(world_size, ranks_per_node, dict(num_column_shards or {}))
    found: dict[str, TablePlan] = {}
    for config in sorted(configs, key=lambda c: -c.num_embeddings * c.embedding_dim):
        name = table_name(config.name)
        own = options_of(config).sharding
        found[name] = TablePlan(
            strategy=chosen[name],
            parts=tuple(placing.place(config, chosen[name])),
            storage=own.storage or Storage.fused,
            cache_load_factor=own.cache_load_factor,
        )
    return Plan(
        world_size=world_size,
        ranks_per_node=ranks_per_node,
        tables={name: found[name] for name in chosen},
    )


def over_rows(
    num_rows: int, ranks: Sequence[int], first_column: int, num_columns: int
) -> list[Part]:
    """Return a range of a table's columns with its rows divided over ``ranks``.

    torchrec sends id i to place i // ceil(rows / places): the last ones may hold fewer
    rows, or none.
    """
    block = -(-num_rows // len(ranks))
    starts = [min(place * block, num_rows) for place in range(len(ranks) + 1)]
    return [
        Part(rank, start, stop - start, first_column, num_columns)
        for rank, start, stop in zip(ranks, starts[:-1], starts[1:], strict=True)
    ]


def places_of(
    strategy: Strategy, world_size: int, ranks_per_node: int
) -> list[list[int]]:
    """Return the ranks of each place that a range of a table's columns may take.

    The ranks of a place share the rows.
    """
    if strategy is Strategy.row_wise:
        return [list(range(world_size))]
    size = ranks_per_node if strategy in ROWS_OF_NODE else 1
    return [list(range(first, first + size)) for first in range(0, world_size, size)]


def column_widths(dim: int, num_shards: int, *, equal: bool) -> list[int]:
    """Return how many columns each of ``num_shards`` ranges has.

    The first ones are wider where they cannot all be what fbgemm's kernels serve.
    Those that are to be ``equal`` divide ``dim``.
    """
    fused = dim % _FUSED_WIDTH == 0 and dim // _FUSED_WIDTH >= num_shards
    unit = _FUSED_WIDTH if fused and not equal else 1
    least, rest = divmod(dim // unit, num_shards)
    return [unit * (least + (place < rest)) for place in range(num_shards)]


@dataclass
class _Placing:
    """Places tables one after the other, and knows what each process has so far."""

    world_size: int
    ranks_per_node: int
    num_column_shards: dict[str, int]
    load: list[int] = field(init=False)
    """Numbers that each process keeps."""

    def __post_init__(self) -> None:
        self.load = [0] * self.world_size

    def place(self, config: TableConfig, strategy: Strategy) -> list[Part]:
        """Return a table's parts, and count them."""
        rows, dim = config.num_embeddings, config.embedding_dim
        check_nodes(
            table_name(config.name), strategy, self.world_size, self.ranks_per_node
        )
        places = places_of(strategy, self.world_size, self.ranks_per_node)
        if strategy is Strategy.table_column_wise:
            nodes = places_of(Strategy.grid, self.world_size, self.ranks_per_node)
            places = [[rank] for rank in min(nodes, key=self._load_of)]
        if strategy in BY_COLUMNS:
            return self._columns(config, places)
        if strategy is Strategy.data_parallel:
            parts = [Part(rank, 0, rows, 0, dim) for (rank,) in places]
        else:
            parts = over_rows(rows, min(places, key=self._load_of), 0, dim)
        self._count(parts)
        return parts

    def _columns(
        self, config: TableConfig, places: Sequence[Sequence[int]]
    ) -> list[Part]:
        """Place range after range of the columns, each where there is least.

        A place takes a second range where all have one. It is a process, or the
        processes of a node, which share the rows.
        """
        found: list[Part] = []
        taken = [0] * len(places)
        first = 0
        for width in self._widths(config, len(places)):
            place = min(
                range(len(places)), key=lambda n: (taken[n], self._load_of(places[n]))
            )
            parts = over_rows(config.num_embeddings, places[place], first, width)
            self._count(parts)
            found += parts
            taken[place] += 1
            first += width
        return found

    def _widths(self, config: TableConfig, num_places: int) -> list[int]:
        name, dim = table_name(config.name), config.embedding_dim
        equal = not isinstance(config, EmbeddingBagConfig)
        asked = self.num_column_shards.get(name)
        if asked is None:
            counts = range(min(num_places, dim), 0, -1)
            count = next(n for n in counts if not equal or dim % n == 0)
            return column_widths(dim, count, equal=equal)
        key = f"tables.{name}.sharding.num_column_shards"
        require(asked <= dim, key, f"at most embedding_dim={dim}", asked)
        divides = f"a divisor of embedding_dim={dim}, as its rows are looked up one by "
        require(not equal or dim % asked == 0, key, f"{divides}one", asked)
        return column_widths(dim, asked, equal=equal)

    def _load_of(self, ranks: Sequence[int]) -> int:
        return sum(self.load[rank] for rank in ranks)

    def _count(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self.load[part.rank] += part.num_rows * part.num_columns


def check_nodes(
    table: str, strategy: Strategy, world_size: int, ranks_per_node: int
) -> None:
    """Check, for a strategy over nodes, that all have equally many processes.

    Raises:
        ConfigError: They have not.
    """
    even = 0 < ranks_per_node <= world_size and world_size % ranks_per_node == 0
    if strategy in OF_NODES and not even:
        raise ConfigError(
            f"Table '{table}' under {strategy.value} needs nodes of equally many "
            f"processes, but there are {world_size} processes, {ranks_per_node} a "
            f"node. Start equally many on every node, or use row_wise or column_wise."
        )


def torchrec_sharding(table: TablePlan, *, device: torch.device) -> ParameterSharding:
    """Return a table's placement in torchrec's words."""
    shards = [
        ShardMetadata(
            shard_offsets=[part.first_row, part.first_column],
            shard_sizes=[part.num_rows, part.num_columns],
            placement=f"rank:{part.rank}/{_device_of(part.rank, device)}",
        )
        for part in table.parts
    ]
    return ParameterSharding(
        sharding_type=_TORCHREC[table.strategy].value,
        # The kernel is ours: torchrec then leaves the tables' state alone.
        compute_kernel=EmbeddingComputeKernel.CUSTOMIZED_KERNEL.value,
        ranks=[part.rank for part in table.parts],
        sharding_spec=EnumerableShardingSpec(shards),
    )


def _device_of(rank: int, device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"cuda:{rank % torch.cuda.device_count()}"


def _refuse_unknown(given: Mapping[str, object], tables: Mapping[str, object]) -> None:
    unknown = sorted(set(given) - set(tables))
    if unknown:
        raise ConfigError(
            f"Sharding strategies must be given for tables of the model, but it has "
            f"none called '{unknown[0]}'. Its tables are: {', '.join(sorted(tables))}."
        )
