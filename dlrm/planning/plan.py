"""Where every table of a model goes: as told, or as torchrec's planner finds best."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.hardware import HardwareConfig
from dlrm.config.optimizer import DenseOptimizer, SparseOptimizer
from dlrm.config.schema import FeatureSchema
from dlrm.config.sharding import ShardingConfig, Storage, Strategy
from dlrm.distributed.plan import Plan, TablePlan
from dlrm.embeddings.fbgemm_bags import fbgemm_refusal
from dlrm.embeddings.kernel_options import kernel_options
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.embeddings.sharded.refusals import refuse_options
from dlrm.embeddings.sharded.replica_groups import group_size, refuse_replicas
from dlrm.embeddings.storage import DEFAULT_CACHE_LOAD_FACTOR, storage_refusal
from dlrm.embeddings.table_config import options_of
from dlrm.planning.advice import explain_failure
from dlrm.planning.dense_part import DensePart, measure_dense_part
from dlrm.planning.machine import Capacity, capacity, this_machine
from dlrm.planning.memory import plan_memory
from dlrm.planning.shard_estimates import Choices
from dlrm.planning.table_loads import TableLoad, table_loads
from dlrm.planning.torchrec_planner import PlannerFailedError, plan_by_torchrec
from dlrm.planning.traffic import JobShape

_BY_COLUMNS = (Strategy.column_wise, Strategy.table_column_wise, Strategy.grid)
_OF_NODES = (Strategy.table_row_wise, Strategy.table_column_wise, Strategy.grid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A plan with all that it was made from."""

    plan: Plan
    loads: dict[str, TableLoad]
    dense: DensePart
    shape: JobShape
    hardware: HardwareConfig
    capacity: Capacity


def plan_model(
    model: nn.Module,
    *,
    sharding: ShardingConfig,
    hardware: HardwareConfig | None,
    optimizer: SparseOptimizer,
    world_size: int,
    ranks_per_node: int,
    device_type: str,
    global_batch_size: int,
    average_lengths: Mapping[str, float] | None = None,
    schema: FeatureSchema | None = None,
    dense_optimizer: DenseOptimizer | None = None,
    among: Collection[Strategy] | None = None,
) -> Planned:
    """Place all tables of ``model``; equal arguments give equal plans.

    Tables whose strategy is set lie as told, whether they fit or not. torchrec's
    planner chooses for the others, among what is exact for the table, and within the
    memory that is left. Tables lie in the device's memory unless their storage is set:
    slower memory is never taken unasked.

    Args:
        model: Holds torchrec's plain collections; it is left as it is.
        sharding: Of tables that say nothing else. With ``replicas``, the plan is that
            of one group of processes, all of which are planned alike.
        hardware: Of the job; this machine's where None.
        optimizer: Of tables without their own.
        world_size: Processes of the job.
        ranks_per_node: Processes of a machine.
        device_type: ``cuda`` or ``cpu``.
        global_batch_size: Examples of a step over all processes.
        average_lengths: Ids a row of features, by name; 1 where not given.
        schema: Of the model's input; activations are left out without.
        dense_optimizer: Of everything but the tables; the default where None.
        among: The only strategies that tables may have, whatever they are told.

    Raises:
        ConfigError: A table cannot lie as it is told to, or nothing fits. The message
            then says what is needed, what there is, and what would help.
    """
    hardware = hardware or this_machine(device_type)
    lengths = dict(average_lengths or {})
    unplaced = Planned(
        loads=table_loads(model, optimizer, lengths),
        plan=_frame(world_size, ranks_per_node, sharding.replicas),
        dense=measure_dense_part(
            model,
            schema,
            optimizer=dense_optimizer or DenseOptimizer(),
            average_lengths=lengths,
        ),
        shape=JobShape(
            local_batch_size=-(-global_batch_size // world_size),
            on_gpu=device_type == "cuda",
            communication=sharding.communication,
            replicas=sharding.replicas,
        ),
        hardware=hardware,
        capacity=capacity(hardware, ranks_per_node),
    )
    return _place(
        unplaced,
        sharding=sharding,
        optimizer=optimizer,
        device_type=device_type,
        among=among,
    )


def _place(
    planned: Planned,
    *,
    sharding: ShardingConfig,
    optimizer: SparseOptimizer,
    device_type: str,
    among: Collection[Strategy] | None,
) -> Planned:
    """Place the tables that are told where to lie, then the others around them."""
    frame, loads = planned.plan, planned.loads
    told = {
        name: strategy
        for name, load in loads.items()
        if (strategy := _told(load, sharding, frame.world_size)) is not None
        and (among is None or strategy in among)
    }
    for name, load in loads.items():
        _check_storage(load, sharding, optimizer, device_type)
        if name in told and frame.world_size > 1:
            _check_strategy(load, told[name], sharding, optimizer)
    planned = _place_told(planned, told, sharding)
    left = {
        name: _choices(load, planned, sharding, optimizer, among or tuple(Strategy))
        for name, load in loads.items()
        if name not in told
    }
    return _place_left(planned, left) if left else planned


def _place_told(
    planned: Planned, told: Mapping[str, Strategy], sharding: ShardingConfig
) -> Planned:
    """Place the tables whose strategy is set."""
    if not told:
        return planned
    frame, loads = planned.plan, planned.loads
    shards = {
        name: count
        for name in told
        if (count := options_of(loads[name].config).sharding.num_column_shards)
    }
    placed = plan_by_strategy(
        [loads[name].config for name in told],
        told,
        Strategy.table_wise,
        world_size=frame.world_size,
        ranks_per_node=frame.ranks_per_node,
        num_column_shards=shards,
    )
    tables = {
        name: _stored(table, loads[name], sharding)
        for name, table in placed.tables.items()
    }
    return dataclasses.replace(planned, plan=dataclasses.replace(frame, tables=tables))


def _place_left(planned: Planned, choices: Mapping[str, Choices]) -> Planned:
    """Let torchrec's planner place the tables of ``choices`` beside the others."""
    frame = planned.plan
    try:
        found = plan_by_torchrec(
            planned.loads,
            choices,
            taken=plan_memory(frame, planned.loads, planned.dense, planned.shape),
            frame=frame,
            shape=planned.shape,
            hardware=planned.hardware,
            capacity=planned.capacity,
        )
    except PlannerFailedError as error:
        message = explain_failure(
            frame,
            planned.loads,
            planned.dense,
            planned.shape,
            planned.capacity,
            movable=list(choices),
            reasoning=str(error),
        )
        raise ConfigError(message) from error
    both = {**frame.tables, **found}
    tables = {name: both[name] for name in planned.loads}
    return dataclasses.replace(planned, plan=dataclasses.replace(frame, tables=tables))


def _told(
    load: TableLoad, sharding: ShardingConfig, world_size: int
) -> Strategy | None:
    if world_size == 1:
        return Strategy.table_wise
    return options_of(load.config).sharding.strategy or sharding.strategy


def _storage(load: TableLoad, sharding: ShardingConfig) -> Storage:
    return options_of(load.config).sharding.storage or sharding.storage or Storage.fused


def _stored(table: TablePlan, load: TableLoad, sharding: ShardingConfig) -> TablePlan:
    storage = _storage(load, sharding)
    if table.strategy is Strategy.data_parallel:
        return table
    return dataclasses.replace(
        table, storage=storage, cache_load_factor=_cache_load_factor(load, storage)
    )


def _cache_load_factor(load: TableLoad, storage: Storage) -> float | None:
    if storage is not Storage.fused_uvm_caching:
        return None
    own = options_of(load.config).sharding.cache_load_factor
    return own or DEFAULT_CACHE_LOAD_FACTOR


def _choices(
    load: TableLoad,
    planned: Planned,
    sharding: ShardingConfig,
    optimizer: SparseOptimizer,
    among: Collection[Strategy],
) -> Choices:
    """Return what the planner may do with a table: what is exact, and possible here."""
    frame, storage = planned.plan, _storage(load, sharding)
    own = options_of(load.config).sharding.num_column_shards
    num_shards = own or 2
    cut = load.width % num_shards == 0 and load.width // num_shards % 4 == 0
    one_node = frame.world_size <= frame.ranks_per_node
    in_host = storage in (Storage.fused_uvm, Storage.fused_uvm_caching)
    nodes_differ = frame.world_size % frame.ranks_per_node != 0
    possible: list[Strategy] = []
    refused: ConfigError | None = None
    for strategy in among:
        if strategy in _BY_COLUMNS and (not cut or num_shards > frame.world_size):
            continue
        if strategy in _OF_NODES and (one_node or nodes_differ):
            continue
        if strategy is Strategy.grid and num_shards * frame.ranks_per_node > (
            frame.world_size
        ):
            continue
        if strategy is Strategy.data_parallel and in_host:
            continue
        try:
            _check_strategy(load, strategy, sharding, optimizer)
        except ConfigError as error:
            refused = refused or error
            continue
        possible.append(strategy)
    if not possible:
        raise refused or ConfigError(
            f"Table '{load.name}' must be able to lie in some way, but no strategy is "
            f"left for it on {frame.world_size} processes. Set "
            f"tables.{load.name}.sharding.strategy."
        )
    return Choices(
        strategies=tuple(possible),
        storage=storage,
        num_column_shards=num_shards,
        cache_load_factor=_cache_load_factor(load, storage),
    )


def _check_strategy(
    load: TableLoad,
    strategy: Strategy,
    sharding: ShardingConfig,
    optimizer: SparseOptimizer,
) -> None:
    """Refuse a strategy that does not go with the table's options."""
    refuse_options(load.config, strategy, optimizer=optimizer, exact=sharding.exact)
    refuse_replicas(
        load.config,
        TablePlan(strategy=strategy, parts=()),
        optimizer=optimizer,
        sharding=sharding,
    )


def _check_storage(
    load: TableLoad,
    sharding: ShardingConfig,
    optimizer: SparseOptimizer,
    device_type: str,
) -> None:
    """Refuse memory that the device has not, before anything is placed in it."""
    options = kernel_options(load.config, optimizer, sharding.storage)
    device = torch.device(device_type)
    why = storage_refusal(
        options, device, fbgemm_refusal=fbgemm_refusal(options, device)
    )
    if why is not None:
        raise ConfigError(
            f"Table '{load.name}' cannot have storage={options.storage.value}: {why}."
        )


def _frame(world_size: int, ranks_per_node: int, replicas: int) -> Plan:
    """Return the processes that share one copy of the tables."""
    size = group_size(world_size, replicas)
    return Plan(world_size=size, ranks_per_node=min(ranks_per_node, size), tables={})
