"""A plan is checked before any table is built by it."""

from __future__ import annotations

import dataclasses

import pytest

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Strategy
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.embeddings.sharded.plan_check import check_plan
from tests.embeddings.sharded.test_placement import row_table, table

ROWS, DIM = 5, 8


def refused(plan: Plan, *, world_size: int = 4, rows_alone: bool = False) -> str:
    kind = row_table if rows_alone else table
    with pytest.raises(ConfigError) as caught:
        check_plan(plan, [kind("t", ROWS, DIM)], world_size=world_size)
    return str(caught.value)


def plan_of(strategy: Strategy, *parts: Part, ranks_per_node: int = 2) -> Plan:
    tables = {"t": TablePlan(strategy=strategy, parts=parts)}
    return Plan(world_size=4, ranks_per_node=ranks_per_node, tables=tables)


def sound(strategy: Strategy) -> Plan:
    return plan_by_strategy(
        [table("t", ROWS, DIM)], {}, strategy, world_size=4, ranks_per_node=2
    )


def test_a_plan_for_other_processes_is_refused():
    assert refused(sound(Strategy.row_wise), world_size=2) == (
        "A plan must be made for the 2 processes of the job, but it is for 4. Plan "
        "anew."
    )


def test_a_plan_of_other_tables_is_refused():
    plan = sound(Strategy.row_wise)
    assert refused(dataclasses.replace(plan, tables={})) == (
        "A plan must place every table of the model, but it does not place 't'. Plan "
        "anew."
    )
    more = {**plan.tables, "u": plan.tables["t"]}
    assert refused(dataclasses.replace(plan, tables=more)) == (
        "A plan must place tables of the model alone, but it has none called 'u'. Its "
        "tables are: t."
    )


def test_a_part_on_no_rank_is_refused():
    assert refused(plan_of(Strategy.table_wise, Part(4, 0, ROWS, 0, DIM))) == (
        "The parts of table 't' must lie on ranks from 0 to 3, but one lies on rank 4. "
        "Plan anew."
    )


def test_the_message_names_the_table_what_it_wants_and_what_it_has():
    halves = (Part(0, 0, ROWS, 0, 4), Part(1, 0, ROWS, 4, 3))
    assert refused(plan_of(Strategy.column_wise, *halves)) == (
        "Table 't' of 5 rows and 8 columns under column_wise must lie in ranges of "
        "columns, one after the other, that cover the table, but its parts are: rows "
        "0 to 4, columns 0 to 3 on rank 0; rows 0 to 4, columns 4 to 6 on rank 1. Plan "
        "anew."
    )


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_table_with_a_part_missing_twice_or_cut_short_is_refused(strategy: Strategy):
    parts = sound(strategy).tables["t"].parts
    short = dataclasses.replace(parts[-1], num_columns=parts[-1].num_columns - 1)
    for wrong in (parts[:-1], (*parts, parts[-1]), (*parts[:-1], short), ()):
        assert f"under {strategy.value} must lie in" in refused(
            plan_of(strategy, *wrong)
        )


def test_rows_that_torchrec_would_seek_elsewhere_are_refused():
    # ceil(5 / 4) = 2: torchrec seeks row 1 on rank 0.
    starts = [(0, 1), (1, 1), (2, 1), (3, 2)]
    parts = [Part(rank, first, n, 0, DIM) for rank, (first, n) in enumerate(starts)]
    message = refused(plan_of(Strategy.row_wise, *parts))
    assert "process r with the ids i of i // block = r" in message


@pytest.mark.parametrize(
    ("strategy", "parts"),
    [
        (Strategy.table_row_wise, [Part(1, 0, 3, 0, 8), Part(2, 3, 2, 0, 8)]),
        (Strategy.table_column_wise, [Part(1, 0, 5, 0, 4), Part(2, 0, 5, 4, 4)]),
        (Strategy.grid, [Part(0, 0, 3, 0, 8), Part(2, 3, 2, 0, 8)]),
    ],
)
def test_parts_on_several_nodes_are_refused_where_one_is_wanted(
    strategy: Strategy, parts: list[Part]
):
    assert "one node" in refused(plan_of(strategy, *parts))


def test_columns_may_be_any_but_equal_where_rows_are_looked_up_one_by_one():
    parts = [Part(2, 0, ROWS, 0, 5), Part(2, 0, ROWS, 5, 2), Part(0, 0, ROWS, 7, 1)]
    plan = plan_of(Strategy.column_wise, *parts)
    check_plan(plan, [table("t", ROWS, DIM)], world_size=4)
    assert refused(plan, rows_alone=True) == (
        "Table 't' must have ranges of columns that are equally wide, as its rows are "
        "looked up one by one, but they are 1 to 5 wide. Set "
        "tables.t.sharding.num_column_shards to a divisor of 8."
    )
