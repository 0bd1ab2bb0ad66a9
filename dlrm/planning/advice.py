"""What does not fit, by how much, and which tables to shard or shrink."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlrm.config.sharding import Strategy
from dlrm.distributed.plan import Plan
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.embeddings.storage import DEFAULT_CACHE_LOAD_FACTOR
from dlrm.planning.dense_part import DensePart
from dlrm.planning.machine import GIB, Capacity
from dlrm.planning.memory import RankMemory, part_memory, plan_memory
from dlrm.planning.table_loads import TableLoad
from dlrm.planning.traffic import JobShape

_NUM_SHOWN = 5
_WHOLE = (Strategy.table_wise, Strategy.data_parallel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortfall:
    """A process whose bytes are more than it has."""

    rank: int
    needed: int
    available: int
    where: str
    """``device`` or ``host``."""

    @property
    def missing(self) -> int:
        """Bytes too many."""
        return self.needed - self.available


def shortfalls(memory: Sequence[RankMemory], room: Capacity) -> list[Shortfall]:
    """Return the processes that do not fit, in order."""
    found = []
    for rank, own in enumerate(memory):
        for where, needed, available in (
            ("device", own.device.total, room.device),
            ("host", own.host.total, room.host),
        ):
            if needed > available:
                found.append(
                    Shortfall(
                        rank=rank, needed=needed, available=available, where=where
                    )
                )
    return found


def explain_shortfalls(
    found: Sequence[Shortfall],
    plan: Plan,
    loads: Mapping[str, TableLoad],
    dense: DensePart,
    shape: JobShape,
    room: Capacity,
) -> str:
    """Say which processes do not fit, what lies there, and what would help."""
    worst = max(found, key=lambda short: short.missing)
    lines = [
        f"The tables must fit into {_gib(worst.available)} of a process's "
        f"{worst.where} memory, but {len(found)} of {plan.world_size} processes need "
        f"more; rank {worst.rank} needs {_gib(worst.needed)}, "
        f"{_gib(worst.missing)} too much.",
        f"Largest parts on rank {worst.rank}:",
        *_parts_of(worst.rank, plan, loads, shape),
    ]
    return "\n".join([*lines, *_remedies(plan, loads, dense, shape, room)])


def explain_failure(
    plan: Plan,
    loads: Mapping[str, TableLoad],
    dense: DensePart,
    shape: JobShape,
    room: Capacity,
    *,
    movable: Sequence[str],
    reasoning: str,
) -> str:
    """Say why the planner found no place for the tables ``movable``."""
    sizes = sorted((loads[name] for name in movable), key=lambda load: -load.total)
    total = sum(load.total for load in sizes)
    others = max(
        own.device.total for own in plan_memory(plan, dict(loads), dense, shape)
    )
    free = room.device - others
    lines = [
        f"The tables must fit into the processes' memory, but torchrec's planner found "
        f"no plan: {len(sizes)} tables with their optimizer state are {_gib(total)}, "
        f"and {plan.world_size} processes have {_gib(max(free, 0))} each, "
        f"{_gib(max(free, 0) * plan.world_size)} together, beside {_gib(others)} for "
        f"everything else.",
        "Largest tables, with their state:",
        *(_table_line(load) for load in sizes[:_NUM_SHOWN]),
        *_remedies(plan, loads, dense, shape, room),
        "The planner's own reasoning:",
        *(f"  {line}" for line in reasoning.splitlines()),
    ]
    return "\n".join(lines)


def _remedies(
    plan: Plan,
    loads: Mapping[str, TableLoad],
    dense: DensePart,
    shape: JobShape,
    room: Capacity,
) -> list[str]:
    """Return what would help, one line each."""
    total = sum(load.total for load in loads.values())
    even = _evenly(plan, loads, dense, shape)
    others = even - total // plan.world_size
    free = room.device - others
    lines = ["What would help:"]
    if even <= room.device:
        lines += _to_shard(plan, loads, even)
    elif free <= 0:
        lines.append(
            f"  - a smaller trainer.global_batch_size or dense part: beside tables, a "
            f"process needs {_gib(others)} of {_gib(room.device)}."
        )
    else:
        lines.append(
            f"  - {math.ceil(total / free)} processes or more: divided evenly over "
            f"{plan.world_size}, tables and exchanges still take {_gib(even)} of "
            f"{_gib(room.device)} each."
        )
        lines += _to_shrink(loads, free * plan.world_size)
    return [*lines, *_to_host(loads, shape, total - free * plan.world_size)]


def _evenly(
    plan: Plan, loads: Mapping[str, TableLoad], dense: DensePart, shape: JobShape
) -> int:
    """Return what a process needs at most where all rows are divided evenly."""
    even = plan_by_strategy(
        [load.config for load in loads.values()],
        {},
        Strategy.row_wise,
        world_size=plan.world_size,
        ranks_per_node=plan.ranks_per_node,
    )
    return max(own.device.total for own in plan_memory(even, dict(loads), dense, shape))


def _to_shard(plan: Plan, loads: Mapping[str, TableLoad], even: int) -> list[str]:
    """Name the tables that lie whole on a process, the largest first."""
    whole = [
        loads[name]
        for name, table in plan.tables.items()
        if table.strategy in _WHOLE and plan.world_size > 1
    ]
    lines = [
        f"  - sharding.strategy=row_wise, which divides every table evenly: "
        f"{_gib(even)} on every process."
    ]
    for load in sorted(whole, key=lambda load: -load.total)[:_NUM_SHOWN]:
        share = load.total / plan.world_size
        lines.append(
            f"  - tables.{load.name}.sharding.strategy=row_wise: {_gib(share)} on "
            f"every process in place of {_gib(load.total)}, {_gib(load.total - share)} "
            f"less where it lies."
        )
    return lines


def _to_shrink(loads: Mapping[str, TableLoad], room: int) -> list[str]:
    """Return the largest number of rows a table at which all tables fit."""
    limit = _row_limit(list(loads.values()), room)
    if limit < 1:
        return []
    cut = [load for load in loads.values() if load.num_rows > limit]
    saved = {load.name: (1 - limit / load.num_rows) * load.total for load in cut}
    lines = [
        f"  - at most {limit:,} rows a table (num_embeddings), in all "
        f"{_gib(sum(saved.values()))} less:"
    ]
    for load in sorted(cut, key=lambda load: -saved[load.name])[:_NUM_SHOWN]:
        lines.append(
            f"      {load.name}: {load.num_rows:,} rows to {limit:,}, "
            f"{_gib(saved[load.name])} less"
        )
    if len(cut) > _NUM_SHOWN:
        lines.append(f"      and {len(cut) - _NUM_SHOWN} more")
    halves = sum(
        load.weights(load.num_rows, load.width) / 2
        for load in loads.values()
        if load.weight_bytes == 4
    )
    if halves:
        lines.append(
            f"  - model.embedding_dtype=float16, which halves weights: "
            f"{_gib(halves)} less."
        )
    per_value = sum(
        load.num_rows * (load.width * load.state_bytes_per_value - 4)
        for load in loads.values()
        if load.state_bytes_per_value
    )
    if per_value > 0:
        lines.append(
            f"  - optimizer.sparse.name=rowwise_adagrad, which keeps one number a "
            f"row: {_gib(per_value)} less."
        )
    return lines


def _row_limit(loads: Sequence[TableLoad], room: int) -> int:
    """Return the largest limit on rows under which ``loads`` take at most ``room``."""

    def needed(limit: int) -> float:
        return sum(load.total * min(1.0, limit / load.num_rows) for load in loads)

    low, high = 0, max(load.num_rows for load in loads)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= room else (low, middle - 1)
    return low


def _to_host(
    loads: Mapping[str, TableLoad], shape: JobShape, missing: float
) -> list[str]:
    """Name the largest tables whose move to host memory frees ``missing`` bytes."""
    if not shape.on_gpu:
        return []
    moved: list[str] = []
    size = freed = 0.0
    for load in sorted(loads.values(), key=lambda load: -load.total):
        weights = load.weights(load.num_rows, load.width)
        moved.append(load.name)
        size += weights
        freed += (1 - DEFAULT_CACHE_LOAD_FACTOR) * weights
        if freed >= missing:
            break
    return [
        f"  - tables.<table>.sharding.storage=fused_uvm_caching for "
        f"{', '.join(moved)}: {_gib(size)} of weights in the host's memory, with "
        f"{DEFAULT_CACHE_LOAD_FACTOR:.0%} of the rows cached on GPUs; slower."
    ]


def _parts_of(
    rank: int, plan: Plan, loads: Mapping[str, TableLoad], shape: JobShape
) -> list[str]:
    found = [
        (part_memory(part, table, loads[name], shape), name, table.strategy)
        for name, table in plan.tables.items()
        for part in table.parts
        if part.rank == rank
    ]
    found.sort(key=lambda entry: -(entry[0].device + entry[0].host).total)
    return [
        f"  {name}, {strategy.value}: {_gib((memory.device + memory.host).total)}"
        for memory, name, strategy in found[:_NUM_SHOWN]
    ]


def _table_line(load: TableLoad) -> str:
    return f"  {load.name}: {load.num_rows:,} rows of {load.width}, {_gib(load.total)}"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"
