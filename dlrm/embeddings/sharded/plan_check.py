"""A plan that came from anywhere: checked before any table is built by it."""

from __future__ import annotations

from collections.abc import Sequence

from torchrec.modules.embedding_configs import EmbeddingBagConfig

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Strategy
from dlrm.distributed.plan import Part, Plan
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.placement import (
    BY_COLUMNS,
    COLUMNS_ALONE,
    check_nodes,
    over_rows,
    places_of,
)

_WANTED = {
    Strategy.table_wise: "one part, the whole table",
    Strategy.row_wise: (
        "a part a process in turn, process r with the ids i of i // block = r, where "
        "block = ceil(rows / processes)"
    ),
    Strategy.column_wise: (
        "ranges of columns, one after the other, that cover the table"
    ),
    Strategy.table_row_wise: (
        "a part for each process of one node in turn, its process r with the ids i of "
        "i // block = r, where block = ceil(rows / ranks_per_node)"
    ),
    Strategy.table_column_wise: (
        "ranges of columns, one after the other, that cover the table, all on one node"
    ),
    Strategy.grid: (
        "ranges of columns, one after the other, that cover the table, each divided "
        "over the processes of one node in turn, its process r with the ids i of "
        "i // block = r, where block = ceil(rows / ranks_per_node)"
    ),
    Strategy.data_parallel: "a part a process in turn, each the whole table",
}


def check_plan(plan: Plan, configs: Sequence[TableConfig], *, world_size: int) -> None:
    """Check that every table of ``configs`` lies on the processes as torchrec can do.

    Raises:
        ConfigError: The plan is for other processes or other tables, or some table's
            parts are not those of its strategy.
    """
    if plan.world_size != world_size:
        raise ConfigError(
            f"A plan must be made for the {world_size} processes of the job, but it is "
            f"for {plan.world_size}. Plan anew."
        )
    tables = {table_name(config.name) for config in configs}
    missing, unknown = sorted(tables - set(plan.tables)), set(plan.tables) - tables
    if missing:
        raise ConfigError(
            f"A plan must place every table of the model, but it does not place "
            f"'{missing[0]}'. Plan anew."
        )
    if unknown:
        raise ConfigError(
            f"A plan must place tables of the model alone, but it has none called "
            f"'{min(unknown)}'. Its tables are: {', '.join(sorted(tables))}."
        )
    for config in configs:
        _check_table(config, plan)


def _check_table(config: TableConfig, plan: Plan) -> None:
    name = table_name(config.name)
    table, ranks = plan.tables[name], range(plan.world_size)
    check_nodes(name, table.strategy, plan.world_size, plan.ranks_per_node)
    away = [part.rank for part in table.parts if part.rank not in ranks]
    if away:
        raise ConfigError(
            f"The parts of table '{name}' must lie on ranks from 0 to {ranks[-1]}, but "
            f"one lies on rank {away[0]}. Plan anew."
        )
    if not _is_laid_out(config, plan):
        shown = "; ".join(map(_shown, table.parts)) or "none"
        raise ConfigError(
            f"Table '{name}' of {config.num_embeddings} rows and "
            f"{config.embedding_dim} columns under {table.strategy.value} must lie in "
            f"{_WANTED[table.strategy]}, but its parts are: {shown}. Plan anew."
        )
    widths = sorted({part.num_columns for part in table.parts})
    rows_alone = not isinstance(config, EmbeddingBagConfig)
    if rows_alone and table.strategy in COLUMNS_ALONE and len(widths) > 1:
        raise ConfigError(
            f"Table '{name}' must have ranges of columns that are equally wide, as its "
            f"rows are looked up one by one, but they are {widths[0]} to {widths[-1]} "
            f"wide. Set tables.{name}.sharding.num_column_shards to a divisor of "
            f"{config.embedding_dim}."
        )


def _is_laid_out(config: TableConfig, plan: Plan) -> bool:
    """Say whether a table's parts are those of its strategy."""
    table = plan.tables[table_name(config.name)]
    parts, rows = list(table.parts), config.num_embeddings
    if table.strategy is Strategy.data_parallel:
        whole = (0, rows, 0, config.embedding_dim)
        return parts == [Part(rank, *whole) for rank in range(plan.world_size)]
    places = places_of(table.strategy, plan.world_size, plan.ranks_per_node)
    size = len(places[0])
    ranges = [parts[start : start + size] for start in range(0, len(parts), size)]
    if table.strategy not in BY_COLUMNS and len(ranges) > 1:
        return False
    if table.strategy is Strategy.table_column_wise:
        nodes = {part.rank // plan.ranks_per_node for part in parts}
        if len(nodes) > 1:
            return False
    column = 0
    for found in ranges:
        width = found[0].num_columns
        choices = [over_rows(rows, place, column, width) for place in places]
        if width < 1 or found not in choices:
            return False
        column += width
    return column == config.embedding_dim


def _shown(part: Part) -> str:
    rows = f"rows {part.first_row} to {part.first_row + part.num_rows - 1}"
    last = part.first_column + part.num_columns - 1
    held = rows if part.num_rows else "no rows"
    return f"{held}, columns {part.first_column} to {last} on rank {part.rank}"
