"""Every row and column of a table is kept once, or by everyone."""

from __future__ import annotations

import pytest
import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Storage, Strategy
from dlrm.config.table_options import TableOptions
from dlrm.distributed.plan import Part, TablePlan
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.sharded.parts import part_config, placed_config
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.embeddings.sharded.plan_check import check_plan
from dlrm.embeddings.table_config import BagTableConfig, RowTableConfig, options_of


def table(name: str, rows: int, dim: int = 4, **options: object) -> BagTableConfig:
    return BagTableConfig(
        name=name,
        num_embeddings=rows,
        embedding_dim=dim,
        feature_names=[name],
        options=TableOptions(**options),
    )


def row_table(name: str, rows: int, dim: int = 4) -> RowTableConfig:
    return RowTableConfig(
        name=name, num_embeddings=rows, embedding_dim=dim, feature_names=[name]
    )


def parts_of(
    config: TableConfig,
    strategy: Strategy,
    world_size: int,
    ranks_per_node: int = 1,
    **num_column_shards: int,
) -> tuple[Part, ...]:
    plan = plan_by_strategy(
        [config],
        {},
        strategy,
        world_size=world_size,
        ranks_per_node=ranks_per_node,
        num_column_shards=num_column_shards,
    )
    check_plan(plan, [config], world_size=world_size)
    return plan.tables["t"].parts


@pytest.mark.parametrize(
    ("world_size", "ranks_per_node"), [(1, 1), (2, 1), (2, 2), (3, 3), (4, 2), (6, 2)]
)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_parts_of_a_table_cover_it(
    strategy: Strategy, rows: int, world_size: int, ranks_per_node: int
):
    for dim in (3, 12):
        for kind in (table, row_table):
            parts = parts_of(kind("t", rows, dim), strategy, world_size, ranks_per_node)
            owners = torch.zeros(rows, dim)
            for part in parts:
                owners[part.rows, part.columns] += 1
            copies = world_size if strategy is Strategy.data_parallel else 1
            assert bool((owners == copies).all())


def test_rows_lie_where_torchrec_sends_their_ids():
    def rows(parts: tuple[Part, ...]) -> list[tuple[int, int, int]]:
        return [(part.rank, part.first_row, part.num_rows) for part in parts]

    over_all = parts_of(table("t", 5), Strategy.row_wise, 4)
    assert rows(over_all) == [(0, 0, 2), (1, 2, 2), (2, 4, 1), (3, 5, 0)]
    over_node = parts_of(table("t", 5), Strategy.table_row_wise, 4, 2)
    assert rows(over_node) == [(0, 0, 3), (1, 3, 2)]


def test_a_grid_has_a_range_of_columns_a_node_and_of_rows_a_process():
    assert parts_of(table("t", 3, 8), Strategy.grid, 4, 2) == (
        Part(0, 0, 2, 0, 4),
        Part(1, 2, 1, 0, 4),
        Part(2, 0, 2, 4, 4),
        Part(3, 2, 1, 4, 4),
    )


@pytest.mark.parametrize(
    ("dim", "world_size", "expected"),
    [
        (8, 2, [4, 4]),
        (12, 2, [8, 4]),  # Wide enough for fbgemm's kernels, in fours.
        (8, 4, [2, 2, 2, 2]),
        (7, 2, [4, 3]),
        (2, 4, [1, 1]),
    ],
)
def test_columns_are_divided_as_evenly_as_kernels_like(
    dim: int, world_size: int, expected: list[int]
):
    parts = parts_of(table("t", 5, dim), Strategy.column_wise, world_size)
    assert [part.num_columns for part in parts] == expected
    assert [part.rank for part in parts] == list(range(len(expected)))


def test_rows_looked_up_one_by_one_are_cut_into_equal_columns():
    def widths(dim: int, world_size: int) -> list[int]:
        parts = parts_of(row_table("t", 5, dim), Strategy.column_wise, world_size)
        return [part.num_columns for part in parts]

    assert widths(12, 2) == [6, 6]
    assert widths(6, 4) == [2, 2, 2]
    assert widths(7, 2) == [7]
    with pytest.raises(ConfigError) as caught:
        parts_of(row_table("t", 5, 6), Strategy.column_wise, 2, t=4)
    assert str(caught.value) == (
        "tables.t.sharding.num_column_shards must be a divisor of embedding_dim=6, as "
        "its rows are looked up one by one, but it is 4."
    )


def test_a_process_may_keep_several_ranges_of_columns():
    parts = parts_of(table("t", 5, 12), Strategy.column_wise, 2, t=3)
    starts = [(part.rank, part.first_column) for part in parts]
    assert starts == [(0, 0), (1, 4), (0, 8)]
    with pytest.raises(ConfigError) as caught:
        parts_of(table("t", 5, 2), Strategy.column_wise, 2, t=3)
    assert str(caught.value) == (
        "tables.t.sharding.num_column_shards must be at most embedding_dim=2, but it "
        "is 3."
    )


def test_whole_tables_go_where_least_is_largest_first():
    configs = [table("small", 2), table("large", 10), table("middle", 6)]
    plan = plan_by_strategy(
        configs, {}, Strategy.table_wise, world_size=2, ranks_per_node=2
    )
    assert list(plan.tables) == ["small", "large", "middle"]
    assert {name: found.parts[0].rank for name, found in plan.tables.items()} == {
        "large": 0,
        "middle": 1,
        "small": 1,
    }


def test_tables_of_a_node_go_to_the_node_with_the_least():
    configs = [table("large", 10), table("small", 4), table("wide", 2, 8)]
    chosen = {"large": Strategy.table_row_wise, "small": Strategy.table_row_wise}
    plan = plan_by_strategy(
        configs, chosen, Strategy.table_column_wise, world_size=4, ranks_per_node=2
    )
    ranks = {name: [p.rank for p in t.parts] for name, t in plan.tables.items()}
    assert ranks == {"large": [0, 1], "small": [2, 3], "wide": [2, 3]}


def test_a_strategy_for_no_table_is_refused():
    configs = [table("a", 2), table("c", 2)]
    with pytest.raises(ConfigError) as caught:
        plan_by_strategy(
            configs,
            {"itme": Strategy.row_wise},
            Strategy.table_wise,
            world_size=1,
            ranks_per_node=1,
        )
    assert str(caught.value) == (
        "Sharding strategies must be given for tables of the model, but it has none "
        "called 'itme'. Its tables are: a, c."
    )


def test_nodes_of_different_sizes_are_refused_where_they_count():
    parts_of(table("t", 5), Strategy.row_wise, 3, 2)
    with pytest.raises(ConfigError) as caught:
        parts_of(table("t", 5), Strategy.grid, 3, 2)
    assert str(caught.value) == (
        "Table 't' under grid needs nodes of equally many processes, but there are 3 "
        "processes, 2 a node. Start equally many on every node, or use row_wise or "
        "column_wise."
    )


@pytest.mark.parametrize(
    ("padding", "first_row", "expected"), [(6, 5, 1), (4, 5, None), (-4, 5, 1)]
)
def test_the_padding_row_is_counted_from_the_parts_first_row(
    padding: int, first_row: int, expected: int | None
):
    part = Part(rank=1, first_row=first_row, num_rows=5, first_column=0, num_columns=4)
    config = part_config(table("t", 10, padding_idx=padding), part)
    assert config.num_embeddings == 5
    assert options_of(config).padding_idx == expected


def test_a_part_without_rows_has_a_table_all_the_same():
    part = Part(rank=3, first_row=5, num_rows=0, first_column=0, num_columns=4)
    assert part_config(table("t", 5), part).num_embeddings == 1


def test_a_range_of_columns_has_names_of_its_own():
    part = Part(rank=0, first_row=0, num_rows=5, first_column=4, num_columns=4)
    config = part_config(table("t", 5, 12), part)
    assert (config.name, config.feature_names) == ("t@4", ["t@4"])
    assert (config.num_embeddings, config.embedding_dim) == (5, 4)


def test_a_part_lies_in_the_memory_that_the_plan_says():
    parts = (Part(0, 0, 5, 0, 4),)
    plan = TablePlan(strategy=Strategy.table_wise, parts=parts, storage=Storage.dense)
    config = table("t", 5)
    assert options_of(placed_config(config, plan)).sharding.storage is Storage.dense
    plain = EmbeddingBagConfig(
        name="t", num_embeddings=5, embedding_dim=4, feature_names=["t"]
    )
    placed = placed_config(plain, plan)
    assert options_of(placed).sharding.storage is Storage.dense
    assert placed.feature_names == ["t"]
    fused = TablePlan(strategy=Strategy.table_wise, parts=parts)
    assert placed_config(plain, fused) is plain
