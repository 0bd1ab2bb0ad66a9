"""Plans: as told, exact, within memory, and always the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import ShardingConfig, Storage, Strategy, TableSharding
from dlrm.embeddings.sharded.plan_check import check_plan
from dlrm.embeddings.sharded.refusals import refuse_options
from dlrm.planning.memory import plan_memory
from dlrm.planning.plan import Planned
from tests.planning.cases import ROWWISE, SGD, bags, model_of, planned, rows

GIB = 2**30
MILLION = 10**6


def check(found: Planned, optimizer=ROWWISE, exact: bool = True) -> None:
    """Check that the plan can be built, is exact, and fits."""
    configs = [load.config for load in found.loads.values()]
    check_plan(found.plan, configs, world_size=found.plan.world_size)
    for config in configs:
        table = found.plan.tables[config.name]
        refuse_options(config, table.strategy, optimizer=optimizer, exact=exact)
    memory = plan_memory(found.plan, found.loads, found.dense, found.shape)
    assert max(m.device.total for m in memory) <= found.capacity.device


@pytest.mark.parametrize("optimizer", [SGD, ROWWISE], ids=["sgd", "rowwise_adagrad"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("world_size", [2, 8])
def test_what_the_planner_finds_is_exact_and_fits(optimizer, device, world_size):
    model = model_of(
        bags("large", MILLION), bags("small", 10), bags("odd", 999, dim=6),
        bags("limited", 5000, max_norm=1.0), rows("single", 700),
    )  # fmt: skip
    check(
        planned(
            model,
            world_size=world_size,
            ranks_per_node=2,
            device_type=device,
            optimizer=optimizer,
        ),
        optimizer,
    )


def test_a_table_larger_than_a_process_is_divided_by_rows_unless_columns_are_exact():
    model = model_of(bags("large", 40 * MILLION, dim=16), bags("small", 100))
    found = planned(model, hbm_gib=1.5)
    check(found)
    assert found.plan.tables["large"].strategy is Strategy.row_wise
    table = planned(model, hbm_gib=1.5, optimizer=SGD).plan.tables["large"]
    assert table.strategy in (Strategy.row_wise, Strategy.column_wise)


def test_tables_lie_as_told_and_the_planner_works_around_them():
    told = TableSharding(strategy=Strategy.row_wise)
    cut = TableSharding(strategy=Strategy.column_wise, num_column_shards=2)
    model = model_of(
        bags("a", 1000, sharding=told), bags("b", 1000, sharding=cut), bags("c", 1000)
    )
    found = planned(model, optimizer=SGD)
    check(found, SGD)
    assert found.plan.tables["a"].strategy is Strategy.row_wise
    assert found.plan.tables["b"].strategy is Strategy.column_wise
    assert [part.num_columns for part in found.plan.tables["b"].parts] == [8, 8]
    assert list(found.plan.tables) == ["a", "b", "c"]


@pytest.mark.parametrize("strategy", [s for s in Strategy if s is not Strategy.grid])
def test_one_strategy_for_all_needs_no_planner(strategy: Strategy):
    model = model_of(bags("a", 1000), bags("b", 10))
    found = planned(model, optimizer=SGD, sharding=ShardingConfig(strategy=strategy))
    check(found, SGD)
    assert {t.strategy for t in found.plan.tables.values()} == {strategy}


def test_what_is_told_but_inexact_is_refused_by_name():
    model = model_of(bags("a", 1000))
    columns = ShardingConfig(strategy=Strategy.column_wise)
    with pytest.raises(ConfigError, match=r"'a' with optimizer rowwise_adagrad"):
        planned(model, sharding=columns)
    columns = ShardingConfig(strategy=Strategy.column_wise, exact=False)
    check(planned(model, sharding=columns), exact=False)


def test_host_memory_is_taken_only_when_asked_for():
    large = 100 * MILLION
    with pytest.raises(ConfigError, match="fused_uvm_caching"):
        planned(model_of(bags("a", large)), hbm_gib=1.0)
    sharding = TableSharding(storage=Storage.fused_uvm_caching, cache_load_factor=0.1)
    found = planned(model_of(bags("a", large, sharding=sharding)), hbm_gib=2.0)
    check(found)
    assert found.plan.tables["a"].storage is Storage.fused_uvm_caching
    assert found.plan.tables["a"].cache_load_factor == 0.1
    memory = plan_memory(found.plan, found.loads, found.dense, found.shape)
    assert sum(m.host.weights for m in memory) == large * 16 * 4


def test_memory_that_the_device_has_not_is_refused_by_name():
    sharding = ShardingConfig(storage=Storage.fused_uvm)
    with pytest.raises(ConfigError, match="'a' cannot have storage=fused_uvm"):
        planned(model_of(bags("a", 10)), device_type="cpu", sharding=sharding)


def test_one_process_keeps_every_table():
    found = planned(model_of(bags("a", 1000), rows("b", 10)), world_size=1)
    check(found)
    assert {t.strategy for t in found.plan.tables.values()} == {Strategy.table_wise}


def test_with_replicas_one_group_is_planned():
    model = model_of(bags("a", 1000), bags("b", 1000))
    found = planned(model, world_size=4, sharding=ShardingConfig(replicas=2))
    check(found)
    assert found.plan.world_size == 2
    with pytest.raises(ConfigError, match="replicas must divide .* 4, but it is 3"):
        planned(model, world_size=4, sharding=ShardingConfig(replicas=3))


def test_a_failure_says_what_is_needed_what_there_is_and_what_would_help():
    model = model_of(bags("wide", 200 * MILLION), bags("small", 10))
    with pytest.raises(ConfigError) as caught:
        planned(model, hbm_gib=2.0)
    text = str(caught.value)
    assert "2 tables with their optimizer state are 12.67 GiB" in text
    assert "wide: 200,000,000 rows of 16, 12.67 GiB" in text
    assert "8 processes or more" in text
    assert "wide: 200,000,000 rows to 1" in text
    assert "model.embedding_dtype=float16, which halves weights: 5.96 GiB less" in text
    assert "insufficient storage" in text


@pytest.mark.slow
def test_equal_arguments_give_equal_plans_whatever_the_seed_of_hashes():
    code = (
        "import json\n"
        "from tests.planning.cases import bags, model_of, planned, SGD\n"
        "names = ['a', 'b', 'c', 'd', 'e', 'f']\n"
        "model = model_of(*(bags(n, 5000 * (i + 1)) for i, n in enumerate(names)))\n"
        "found = planned(model, optimizer=SGD).plan.tables\n"
        "print(json.dumps({n: [t.strategy.value, [p.rank for p in t.parts]] "
        "for n, t in found.items()}))"
    )
    outputs = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert set(json.loads(outputs.pop())) == set("abcdef")
