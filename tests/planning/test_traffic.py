"""What travels, counted by hand for tables of two ranges and of two nodes."""

from __future__ import annotations

import pytest

from dlrm.config.sharding import CommunicationConfig, Precision, Strategy
from dlrm.distributed.plan import Plan
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.planning.table_loads import table_loads
from dlrm.planning.traffic import Flow, JobShape, RankTraffic, plan_traffic
from tests.planning.cases import SGD, bags, model_of, rows

B = 10
"""Examples of a process."""


def traffic(
    strategy: Strategy,
    *,
    world_size: int = 2,
    ranks_per_node: int = 2,
    single: bool = False,
    communication: CommunicationConfig | None = None,
) -> list[RankTraffic]:
    config = rows("t", 8) if single else bags("t", 8)
    loads = table_loads(model_of(config), SGD, {"t": 3.0})
    plan = plan_by_strategy(
        [config],
        {},
        strategy,
        world_size=world_size,
        ranks_per_node=ranks_per_node,
    )
    shape = JobShape(
        local_batch_size=B,
        on_gpu=True,
        communication=communication or CommunicationConfig(),
    )
    return plan_traffic(plan, loads, shape)


def test_a_whole_table_gets_all_ids_and_sends_all_vectors():
    owner, other = traffic(Strategy.table_wise)
    ids = B * (3 * 4 + 4)
    vectors = B * 16 * 4
    assert owner.ids == Flow(sent=ids, received=2 * ids, within_node=ids)
    assert other.ids == Flow(sent=ids)
    assert owner.vectors == Flow(
        sent=2 * vectors, received=vectors, within_node=vectors
    )
    assert other.vectors == Flow(received=vectors)
    assert owner.gradients == Flow(
        sent=vectors, received=2 * vectors, within_node=vectors
    )
    assert owner.buffers == 3 * ids + 6 * vectors


def test_ranges_of_rows_get_their_share_of_ids_and_send_sums():
    for rank in traffic(Strategy.row_wise):
        ids = B * (3 / 2 * 4 + 4)
        vectors = B * 16 * 4
        assert rank.ids == Flow(sent=2 * ids, received=2 * ids, within_node=ids)
        assert rank.vectors.sent == 2 * vectors
        assert rank.vectors.received == vectors


def test_single_rows_come_from_each_owner_by_its_share():
    for rank in traffic(Strategy.row_wise, single=True):
        vectors = B * 3 / 2 * 16 * 4
        assert rank.vectors.sent == 2 * vectors
        assert rank.vectors.received == 2 * vectors


def test_ranges_of_columns_get_all_ids_and_send_their_columns():
    for rank in traffic(Strategy.column_wise):
        ids, vectors = B * (3 * 4 + 4), B * 8 * 4
        assert rank.ids == Flow(sent=2 * ids, received=2 * ids, within_node=ids)
        assert rank.vectors.sent == 2 * vectors
        assert rank.vectors.received == 2 * vectors


def test_a_node_adds_up_before_it_sends():
    found = traffic(Strategy.table_row_wise, world_size=4, ranks_per_node=2)
    vectors = B * 16 * 4
    for owner in found[:2]:
        assert owner.vectors == Flow(
            sent=4 * vectors,
            received=vectors,
            summed=2 * vectors,
            within_node=2 * vectors,
            between_nodes=vectors,
        )
    for other in found[2:]:
        assert other.vectors == Flow(received=vectors)


def test_replicas_gather_ids_and_gradients_of_all():
    own = B * (3 * 4 + 4) + B * 16 * 4
    found = traffic(Strategy.data_parallel, world_size=4, ranks_per_node=2)
    for rank in found:
        assert rank.ids == rank.vectors == Flow()
        assert rank.gradients == Flow(
            sent=own, received=4 * own, within_node=own, between_nodes=2 * own
        )


@pytest.mark.parametrize("strategy", list(Strategy))
def test_one_process_sends_nothing(strategy: Strategy):
    (only,) = traffic(strategy, world_size=1, ranks_per_node=1)
    assert only.buffers == 0


def test_half_precision_halves_vectors_and_gradients_alone():
    half = CommunicationConfig(forward=Precision.fp16, backward=Precision.bf16)
    full, less = (
        traffic(Strategy.table_wise)[0],
        traffic(Strategy.table_wise, communication=half)[0],
    )
    assert less.vectors.sent == full.vectors.sent / 2
    assert less.gradients.received == full.gradients.received / 2
    assert less.ids == full.ids


def test_every_process_is_told_of():
    assert (
        len(
            plan_traffic(
                Plan(world_size=3, ranks_per_node=3, tables={}),
                {},
                JobShape(local_batch_size=B, on_gpu=True),
            )
        )
        == 3
    )
