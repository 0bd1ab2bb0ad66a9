"""Bytes that each process of a plan needs, by what they are for.

- ``weights`` and ``optimizer``: rows times columns of the process's parts, and what
  the optimizer keeps beside them; counters of ``admit_after`` count as optimizer state.
- ``cache``: for ``fused_uvm_caching``, c rows times (width times bytes + 16), where c
  is ``cache_load_factor`` times the rows, plus 4 bytes a row of the table for where it
  is in the cache.
- ``communication``: every tensor that the step's exchanges of ids, vectors and
  gradients read or write, as ``dlrm.planning.traffic`` counts them. Those that a
  library has let go of by the time others are made are counted all the same.
- ``activations``: what autograd keeps until backward: of the dense part, as
  ``dlrm.planning.dense_part`` measures it; of lookups, the ids that came, put in order;
  the pooled vectors where no exchange brings them.
- ``dense_parameters``, ``dense_gradients`` and ``dense_optimizer``: of everything but
  the tables, a replica a process.

Tables under ``fused_uvm`` and ``fused_uvm_caching`` take the host's memory for their
weights and for optimizer state that is kept a column; what is kept a row lies on the
GPU, as fbgemm has it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from dlrm.config.sharding import Storage
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.embeddings.storage import DEFAULT_CACHE_LOAD_FACTOR, IN_HOST_MEMORY
from dlrm.planning.dense_part import DensePart
from dlrm.planning.table_loads import TableLoad
from dlrm.planning.traffic import JobShape, RankTraffic, plan_traffic

_CACHE_BYTES_PER_SLOT = 16
"""Which row it holds, and when it was last used."""
_CACHE_BYTES_PER_ROW = 4
"""Where in the cache each row is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes by what they are for."""

    weights: int = 0
    optimizer: int = 0
    cache: int = 0
    communication: int = 0
    activations: int = 0
    dense_parameters: int = 0
    dense_gradients: int = 0
    dense_optimizer: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_kind().values())

    def by_kind(self) -> dict[str, int]:
        """Return the bytes by the kind's name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def __add__(self, other: Memory) -> Memory:
        """Add kind by kind."""
        theirs = other.by_kind()
        return Memory(**{k: v + theirs[k] for k, v in self.by_kind().items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class RankMemory:
    """One process's bytes in the memory of its device and in that of its node."""

    device: Memory = field(default_factory=Memory)
    """Of a CPU process, all there is."""
    host: Memory = field(default_factory=Memory)

    def __add__(self, other: RankMemory) -> RankMemory:
        """Add both."""
        return RankMemory(
            device=self.device + other.device, host=self.host + other.host
        )


def plan_memory(
    plan: Plan, loads: dict[str, TableLoad], dense: DensePart, shape: JobShape
) -> list[RankMemory]:
    """Return every process's bytes."""
    found = [
        _step_memory(traffic, loads, dense, shape, alone=plan.world_size == 1)
        for traffic in plan_traffic(plan, loads, shape)
    ]
    for name, table in plan.tables.items():
        for part in table.parts:
            found[part.rank] += part_memory(part, table, loads[name], shape)
    return found


def part_memory(
    part: Part, table: TablePlan, load: TableLoad, shape: JobShape
) -> RankMemory:
    """Return the bytes that one part of a table takes, exchanges not counted."""
    size = part.num_rows, part.num_columns
    weights = load.weights(*size)
    if table.storage not in IN_HOST_MEMORY or not shape.on_gpu:
        return RankMemory(device=Memory(weights=weights, optimizer=load.state(*size)))
    rowwise = part.num_rows * load.state_bytes_per_row
    cache = _cache_bytes(part, table, load)
    return RankMemory(
        device=Memory(optimizer=rowwise, cache=cache),
        host=Memory(weights=weights, optimizer=load.state(*size) - rowwise),
    )


def dense_memory(dense: DensePart, local_batch_size: int) -> Memory:
    """Return the bytes of everything but tables and exchanges."""
    return Memory(
        activations=dense.activation_bytes(local_batch_size),
        dense_parameters=dense.parameter_bytes,
        dense_gradients=dense.parameter_bytes,
        dense_optimizer=dense.optimizer_bytes,
    )


def _step_memory(
    traffic: RankTraffic,
    loads: dict[str, TableLoad],
    dense: DensePart,
    shape: JobShape,
    *,
    alone: bool,
) -> RankMemory:
    kept = traffic.ids.received
    if alone:
        numbers = sum(
            load.vectors_per_example * load.width + load.ids_per_example
            for load in loads.values()
        )
        kept = 4 * shape.local_batch_size * numbers
    step = Memory(communication=traffic.buffers, activations=round(kept))
    return RankMemory(device=step + dense_memory(dense, shape.local_batch_size))


def _cache_bytes(part: Part, table: TablePlan, load: TableLoad) -> int:
    if table.storage is not Storage.fused_uvm_caching:
        return 0
    share = table.cache_load_factor or DEFAULT_CACHE_LOAD_FACTOR
    slot = load.weights(1, part.num_columns) + _CACHE_BYTES_PER_SLOT
    return round(share * part.num_rows * slot) + _CACHE_BYTES_PER_ROW * part.num_rows
