"""Each option of a table trains alike on one process and, sharded, on several."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from dlrm.config.sharding import Strategy
from tests.embeddings.sharded.cases import strategies
from tests.embeddings.sharded.definition import Defined, train_by_definition
from tests.embeddings.sharded.jobs import Trained, train_locally, train_sharded
from tests.embeddings.sharded.matrix import OPTIONS, Option, refused
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")

BY_NAME = {option.name: option for option in OPTIONS}
SHARDED = [
    (option.name, strategy)
    for option in OPTIONS
    for strategy in Strategy
    if refused(option, strategy) is None
]

FIXTURES = {1: "one_rank", 2: "two_ranks", 4: "four_ranks"}
WORLD_SIZES = {
    **dict.fromkeys(Strategy, (1, 2)),
    Strategy.table_row_wise: (2,),
    Strategy.table_column_wise: (2,),
    Strategy.grid: (4,),
}
"""Of each strategy's tests; two ranks make a node."""
SLOW = {Strategy.table_column_wise}
"""What travels is what travels under ``column_wise``."""


@cache
def trained_locally(name: str) -> Trained:
    return train_locally(BY_NAME[name].case)


@pytest.mark.parametrize("name", BY_NAME)
def test_option_trains_as_defined(name: str):
    option, got = BY_NAME[name], trained_locally(name)
    expected = train_by_definition(option.case)
    compare_vectors(option, got.vectors, got.evaluated, expected)
    for table, oracle in expected.tables.items():
        np.testing.assert_allclose(
            got.tables[table]["weight"], oracle.weight, rtol=0, atol=option.tolerance
        )
        if "uses" in got.tables[table]:
            np.testing.assert_array_equal(got.tables[table]["uses"], oracle.uses)


@pytest.mark.parametrize(
    ("name", "strategy", "world_size"),
    [
        pytest.param(
            name,
            strategy,
            size,
            id=f"{name}-{strategy.value}-{size}",
            marks=[pytest.mark.slow] if strategy in SLOW else [],
        )
        for name, strategy in SHARDED
        for size in WORLD_SIZES[strategy]
    ],
)
def test_option_trains_as_on_one_process(
    name: str, strategy: Strategy, world_size: int, request: pytest.FixtureRequest
):
    ranks: Ranks = request.getfixturevalue(FIXTURES[world_size])
    option, expected = BY_NAME[name], trained_locally(name)
    got = ranks.run(train_sharded, option.case, strategies(strategy))
    vectors = [
        np.concatenate([rank.vectors[step] for rank in got])
        for step in range(option.case.num_steps)
    ]
    evaluated = np.concatenate([rank.evaluated for rank in got])
    compare_vectors(option, vectors, evaluated, expected)
    compare_tables(option, got, expected)


def compare_vectors(
    option: Option,
    vectors: list[np.ndarray],
    evaluated: np.ndarray,
    expected: Trained | Defined,
) -> None:
    for step, (mine, theirs) in enumerate(zip(vectors, expected.vectors, strict=True)):
        atol = min(option.tolerance, 1e-6) if step == 0 else option.tolerance
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=atol)
    np.testing.assert_allclose(
        evaluated, expected.evaluated, rtol=0, atol=option.tolerance
    )


def compare_tables(option: Option, got: list[Trained], expected: Trained) -> None:
    for rank in got:
        assert rank.tables.keys() == expected.tables.keys()
        for table, columns in expected.tables.items():
            assert rank.tables[table].keys() == columns.keys()
            for name, values in columns.items():
                np.testing.assert_allclose(
                    rank.tables[table][name], values, rtol=1e-5, atol=option.tolerance
                )
        for table, weight in rank.replicas.items():
            np.testing.assert_array_equal(weight, rank.tables[table]["weight"])
