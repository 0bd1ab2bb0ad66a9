"""Twenty steps under every strategy, on every number of ranks, are one process's."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from dlrm.config.sharding import Strategy
from dlrm.embeddings.sharded.placement import BY_COLUMNS
from dlrm.embeddings.sharded.refusals import refusal
from tests.embeddings.sharded.ranks import Ranks
from tests.embeddings.sharded.twenty_steps import (
    train_alone,
    train_sharded,
    try_rowwise,
)

pytestmark = pytest.mark.xdist_group("ranks")

NODES = {1: (1,), 2: (1, 2), 4: (2, 4)}
"""Ranks of a node, by number of ranks; strategies without nodes need the last alone."""
OVER_NODES = (Strategy.table_row_wise, Strategy.table_column_wise, Strategy.grid)
MATRIX = [
    (strategy, world_size, ranks_per_node)
    for strategy in Strategy
    for world_size, nodes in NODES.items()
    for ranks_per_node in (nodes if strategy in OVER_NODES else nodes[-1:])
]
FAST = Strategy.grid
"""On four ranks: no fewer have several nodes of several ranks."""
trained_alone = cache(train_alone)


@pytest.mark.parametrize(
    ("strategy", "world_size", "ranks_per_node"),
    [
        pytest.param(
            strategy,
            size,
            node,
            id=f"{strategy.value}-{size} by {node}",
            marks=[pytest.mark.slow] if size == 4 and strategy is not FAST else [],
        )
        for strategy, size, node in MATRIX
    ],
)
def test_twenty_steps_are_those_of_one_process(
    strategy: Strategy,
    world_size: int,
    ranks_per_node: int,
    request: pytest.FixtureRequest,
):
    name = {1: "one_rank", 2: "two_ranks", 4: "four_ranks"}[world_size]
    ranks: Ranks = request.getfixturevalue(name)
    expected = trained_alone()
    for found in ranks.run(train_sharded, strategy, ranks_per_node):
        assert found.keys() == expected.keys()
        for table, columns in expected.items():
            assert found[table].keys() == columns.keys()
            for name, values in columns.items():
                np.testing.assert_allclose(
                    found[table][name],
                    values,
                    rtol=1e-5,
                    atol=1e-5,
                    err_msg=f"{name} of {table}",
                )


@pytest.mark.parametrize("strategy", sorted(BY_COLUMNS, key=lambda s: s.value))
def test_one_state_a_row_is_refused_where_rows_are_cut(
    strategy: Strategy, two_ranks: Ranks
):
    why = refusal("optimizer.name=rowwise_adagrad", strategy)
    for message in two_ranks.run(try_rowwise, strategy):
        assert message.endswith(f"with optimizer rowwise_adagrad: {why}")
