"""Bytes of parts, by the definition: rows, columns, state, cache."""

from __future__ import annotations

import pytest

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Storage, Strategy
from dlrm.config.table_options import TableDtype, TableOptimizer
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.planning.dense_part import DensePart, Polynomial
from dlrm.planning.memory import Memory, part_memory, plan_memory
from dlrm.planning.table_loads import table_loads
from dlrm.planning.traffic import JobShape
from tests.planning.cases import ADAGRAD, ROWWISE, SGD, bags, model_of, rows

GPU = JobShape(local_batch_size=8, on_gpu=True)
WHOLE = Part(0, 0, 100, 0, 16)


def own(config, optimizer, storage=Storage.fused, shape=GPU, factor=None):
    load = table_loads(model_of(config), optimizer, {})["t"]
    table = TablePlan(
        strategy=Strategy.table_wise,
        parts=(WHOLE,),
        storage=storage,
        cache_load_factor=factor,
    )
    return part_memory(WHOLE, table, load, shape)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("sgd", 0),
        ("adagrad", 100 * 16 * 4),
        ("rowwise_adagrad", 100 * 4),
        ("adam", 2 * 100 * 16 * 4),
        ("partial_rowwise_adam", 100 * 16 * 4 + 100 * 4),
    ],
)
def test_state_is_what_the_optimizer_keeps(name: str, state: int):
    optimizer = SparseOptimizer(name=SparseOptimizerName[name])
    found = own(bags("t", 100), optimizer).device
    assert found == Memory(weights=100 * 16 * 4, optimizer=state)


def test_sixteen_bit_rows_keep_their_state_in_float32():
    found = own(bags("t", 100, dtype=TableDtype.float16), ADAGRAD).device
    assert found == Memory(weights=100 * 16 * 2, optimizer=100 * 16 * 4)


def test_a_frozen_table_has_no_state_and_an_admitting_one_has_counters():
    assert own(bags("t", 100, frozen=True), ADAGRAD).device.optimizer == 0
    assert own(bags("t", 100, admit_after=3), SGD).device.optimizer == 100 * 4


def test_a_tables_own_optimizer_counts():
    options = {"optimizer": TableOptimizer(name=SparseOptimizerName.sgd)}
    assert own(bags("t", 100, **options), ADAGRAD).device.optimizer == 0


def test_host_memory_holds_weights_and_state_a_column_but_not_state_a_row():
    found = own(bags("t", 100), ADAGRAD, Storage.fused_uvm)
    assert found.device == Memory()
    assert found.host == Memory(weights=6400, optimizer=6400)
    found = own(bags("t", 100), ROWWISE, Storage.fused_uvm)
    assert found.device == Memory(optimizer=400)
    assert found.host == Memory(weights=6400)


def test_a_cache_holds_its_share_of_the_rows():
    found = own(bags("t", 100), SGD, Storage.fused_uvm_caching, factor=0.25)
    assert found.device == Memory(cache=25 * (64 + 16) + 100 * 4)
    assert found.host == Memory(weights=6400)


def test_on_a_cpu_all_memory_is_the_processs():
    cpu = JobShape(local_batch_size=8, on_gpu=False)
    found = own(bags("t", 100), SGD, Storage.fused_uvm, shape=cpu)
    assert found.device == Memory(weights=6400)
    assert found.host == Memory()


def test_one_process_keeps_vectors_and_ids_itself():
    loads = table_loads(model_of(bags("t", 100), rows("u", 10)), SGD, {"u": 2.0})
    dense = DensePart(
        parameter_bytes=10, optimizer_bytes=20, saved=Polynomial(((1, 5), (2, 10)))
    )
    plan = Plan(world_size=1, ranks_per_node=1, tables={})
    (only,) = plan_memory(plan, loads, dense, GPU)
    vectors = 8 * (16 + 2 * 16) * 4
    assert only.device == Memory(
        activations=vectors + 8 * 3 * 4 + 40,
        dense_parameters=10,
        dense_gradients=10,
        dense_optimizer=20,
    )
    assert only.device.total == vectors + 96 + 80
