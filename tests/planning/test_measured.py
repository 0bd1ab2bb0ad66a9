"""The bytes of a plan are those of the tensors of a step that is really taken."""

from __future__ import annotations

import pytest

from dlrm.config.sharding import Strategy
from dlrm.planning.dense_part import measure_dense_part
from dlrm.planning.memory import Memory, plan_memory
from dlrm.planning.table_loads import table_loads
from dlrm.planning.traffic import JobShape
from tests.embeddings.sharded.ranks import Ranks
from tests.planning.measured_step import (
    AVERAGE_LENGTHS,
    DENSE,
    LOCAL_BATCH_SIZE,
    SPARSE,
    TWO_NODES,
    TWO_RANKS,
    Measured,
    measure,
    meta_model,
    plan_of,
    schema,
)

pytestmark = pytest.mark.xdist_group("ranks")
EXACT = (
    "weights", "optimizer", "dense_parameters", "dense_gradients", "dense_optimizer"
)  # fmt: skip
ESTIMATED = ("communication", "activations")


def expected(strategies: dict[str, Strategy], world_size: int) -> list[Memory]:
    model = meta_model()
    found = plan_memory(
        plan_of(model, strategies, world_size),
        table_loads(model, SPARSE, AVERAGE_LENGTHS),
        measure_dense_part(
            model, schema(), optimizer=DENSE, average_lengths=AVERAGE_LENGTHS
        ),
        JobShape(local_batch_size=LOCAL_BATCH_SIZE, on_gpu=False),
    )
    return [memory.device for memory in found]


def assert_as_measured(memory: list[Memory], measured: list[Measured]) -> None:
    for planned, taken in zip(memory, measured, strict=True):
        for kind in EXACT:
            assert getattr(planned, kind) == getattr(taken, kind), kind
        for kind in ESTIMATED:
            wanted = pytest.approx(getattr(taken, kind), rel=0.05)
            assert getattr(planned, kind) == wanted, kind


def test_two_ranks_take_what_was_planned(two_ranks: Ranks):
    measured = two_ranks.run(measure, TWO_RANKS)
    assert_as_measured(expected(TWO_RANKS, 2), measured)


@pytest.mark.slow
def test_two_nodes_of_two_ranks_take_what_was_planned(four_ranks: Ranks):
    measured = four_ranks.run(measure, TWO_NODES)
    assert_as_measured(expected(TWO_NODES, 4), measured)
