"""Ranges of columns of any width, any number of them on a rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch.distributed as dist

from dlrm.config.features import Pooling
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.config.table_options import TableOptions
from dlrm.distributed.plan import Part, TablePlan
from tests.embeddings.sharded.cases import Case
from tests.embeddings.sharded.jobs import train_locally, train_sharded
from tests.embeddings.sharded.matrix import Option
from tests.embeddings.sharded.ranks import Ranks
from tests.embeddings.sharded.test_options import compare_tables, compare_vectors

pytestmark = pytest.mark.xdist_group("ranks")

ROWS = Case().num_embeddings
Ranges = tuple[tuple[int, int], ...]
"""Rank and width of each range."""


def in_ranges(ranges: Ranges) -> TablePlan:
    firsts = np.cumsum([0, *(width for _, width in ranges)]).tolist()
    parts = [
        Part(rank, 0, ROWS, first, width)
        for (rank, width), first in zip(ranges, firsts, strict=False)
    ]
    return TablePlan(strategy=Strategy.column_wise, parts=tuple(parts))


def train(
    group: dist.ProcessGroup,
    case: Case,
    ranges: Ranges,
    sharding: ShardingConfig | None = None,
) -> object:
    return train_sharded(group, case, {}, sharding, a=in_ranges(ranges))


@pytest.mark.parametrize(
    ("pooling", "ranges"),
    [
        (Pooling.sum, ((1, 8), (1, 1), (0, 3))),
        (Pooling.sum, ((1, 4), (0, 4), (1, 4))),
        (Pooling.mean, ((0, 5), (1, 2), (0, 1), (1, 4))),
        (Pooling.max, ((1, 4), (0, 4), (1, 4))),
        (Pooling.max, ((1, 12),)),
    ],
)
def test_ranges_of_columns_train_as_the_whole(
    pooling: Pooling, ranges: Ranges, two_ranks: Ranks
):
    case = Case(
        pooling=pooling,
        embedding_dim=12,
        options=TableOptions(admit_after=1, padding_idx=3),
        optimizer=SparseOptimizer(name=SparseOptimizerName.adam, lr=0.1, eps=1e-3),
    )
    option, expected = Option("any", case), train_locally(case)
    got = two_ranks.run(train, case, ranges)
    steps = range(case.num_steps)
    vectors = [np.concatenate([rank.vectors[step] for rank in got]) for step in steps]
    evaluated = np.concatenate([rank.evaluated for rank in got])
    compare_vectors(option, vectors, evaluated, expected)
    compare_tables(option, got, expected)


def test_without_exactness_a_range_of_columns_has_a_state_a_row(two_ranks: Ranks):
    def trained(name: SparseOptimizerName, lr: float, steps: int) -> np.ndarray:
        own = SparseOptimizer(name=name, lr=lr, eps=1e-3)
        case = Case(embedding_dim=8, optimizer=own, num_steps=steps)
        sharding = ShardingConfig(exact=False)
        ranges = ((0, 4), (1, 4))
        found = two_ranks.run(train, case, ranges, sharding)
        return found[0].tables["a"]["weight"]

    start = Case(embedding_dim=8).start()["a"].numpy()
    gradient = start - trained(SparseOptimizerName.sgd, 1.0, 1)
    moved = trained(SparseOptimizerName.rowwise_adagrad, 0.1, 1) - start
    for columns in (slice(0, 4), slice(4, 8)):
        g = gradient[:, columns].astype(np.float64)
        size = np.sqrt((g**2).mean(axis=1, keepdims=True))
        np.testing.assert_allclose(
            moved[:, columns], -0.1 * g / (size + 1e-3), atol=1e-5
        )
