"""Times by the formulas, on numbers that can be done by hand."""

from __future__ import annotations

import math

import pytest

from dlrm.config.hardware import HardwareConfig
from dlrm.config.sharding import Storage, Strategy
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.planning.dense_part import DensePart, Polynomial
from dlrm.planning.step_time import StepTime, plan_times
from dlrm.planning.table_loads import table_loads
from dlrm.planning.traffic import JobShape
from tests.planning.cases import ROWWISE, bags, model_of

HARDWARE = HardwareConfig(
    hbm_gbps=1000.0, ddr_gbps=10.0, intra_node_gbps=100.0, inter_node_gbps=10.0,
    tflops=1.0,
)  # fmt: skip
MS = 1e3


def times(storage: Storage = Storage.fused, ranks_per_node: int = 2):
    loads = table_loads(model_of(bags("t", 1000)), ROWWISE, {"t": 5.0})
    table = TablePlan(
        strategy=Strategy.table_wise,
        parts=(Part(0, 0, 1000, 0, 16),),
        storage=storage,
        cache_load_factor=0.5,
    )
    plan = Plan(world_size=2, ranks_per_node=ranks_per_node, tables={"t": table})
    dense = DensePart(
        parameter_bytes=10**9, flops=Polynomial(((1, 10**6), (2, 2 * 10**6)))
    )
    shape = JobShape(local_batch_size=50, on_gpu=True)
    return plan_times(plan, loads, dense, shape, HARDWARE)


def test_rows_are_read_and_trained_at_the_speed_of_their_memory():
    owner, other = times()
    num_ids = 2 * 50 * 5
    unique = 1000 * (1 - math.exp(-num_ids / 1000))
    vectors = 2 * 50 * 16 * 4
    assert owner.lookup == pytest.approx((num_ids * 64 + vectors) / 1e12 * MS)
    updated = vectors + num_ids * 64 + 2 * unique * (64 + 4)
    assert owner.update == pytest.approx(updated / 1e12 * MS)
    assert other.lookup == other.update == 0


def test_rows_of_the_host_come_through_its_bus():
    (owner, _), num_ids = times(Storage.fused_uvm), 500
    vectors = 2 * 50 * 16 * 4
    wanted = num_ids * 64 / 1e10 + vectors / 1e12
    assert owner.lookup == pytest.approx(wanted * MS)
    (cached, _) = times(Storage.fused_uvm_caching)
    half = num_ids * 64 * (0.5 / 1e12 + 0.5 / 1e10) + vectors / 1e12
    assert cached.lookup == pytest.approx(half * MS)


def test_exchanges_take_the_links_they_cross():
    near, far = times()[0], times(ranks_per_node=1)[0]
    vectors = 50 * 16 * 4
    assert near.exchange_vectors == pytest.approx(vectors / 1e11 * MS)
    assert far.exchange_vectors == pytest.approx(vectors / 1e10 * MS)
    assert near.exchange_ids == pytest.approx(50 * (5 * 4 + 4) / 1e11 * MS)
    assert near.all_reduce == pytest.approx(1e9 / 1e11 * MS)
    assert far.all_reduce == pytest.approx(1e9 / 1e10 * MS)


def test_the_dense_part_takes_its_operations():
    assert times()[1].dense == pytest.approx(50 * 1e6 / 1e12 * MS)


def test_the_largest_term_is_named():
    found = StepTime(lookup=1.0, dense=3.0) + StepTime(lookup=1.0, update=0.5)
    assert found.total == 5.5
    assert found.largest == "dense"
