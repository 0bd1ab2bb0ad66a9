"""Every row and column of a table is kept once, or by everyone."""

from __future__ import annotations

import pytest
import torch

from dlrm.config.sharding import Strategy
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.sharded.parts import part_config
from dlrm.embeddings.sharded.placement import Part, place_tables
from dlrm.embeddings.table_config import BagTableConfig, options_of


def table(name: str, rows: int, dim: int = 4, **options: object) -> BagTableConfig:
    return BagTableConfig(
        name=name,
        num_embeddings=rows,
        embedding_dim=dim,
        feature_names=[name],
        options=TableOptions(**options),
    )


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_parts_of_a_table_cover_it(strategy: Strategy, rows: int, world_size: int):
    config = table("t", rows, dim=12)
    parts = place_tables([config], {"t": strategy}, world_size)["t"]
    owners = torch.zeros(rows, 12)
    for part in parts:
        owners[part.rows, part.columns] += 1
    copies = world_size if strategy is Strategy.data_parallel else 1
    assert bool((owners == copies).all())
    assert {part.rank for part in parts} <= set(range(world_size))


def test_rows_lie_where_torchrec_sends_their_ids():
    parts = place_tables([table("t", 5)], {"t": Strategy.row_wise}, 4)["t"]
    assert [(part.first_row, part.num_rows) for part in parts] == [
        (0, 2),
        (2, 2),
        (4, 1),
        (5, 0),
    ]


def test_whole_tables_go_where_least_is_largest_first():
    configs = [table("small", 2), table("large", 10), table("middle", 6)]
    placed = place_tables(
        configs, dict.fromkeys(["small", "large", "middle"], Strategy.table_wise), 2
    )
    assert list(placed) == ["small", "large", "middle"]
    assert {name: parts[0].rank for name, parts in placed.items()} == {
        "large": 0,
        "middle": 1,
        "small": 1,
    }


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
