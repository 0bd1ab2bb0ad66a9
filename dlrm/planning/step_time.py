"""How long a step takes each process, by the speed of what it waits for.

With the symbols of ``dlrm.planning.traffic``, B for the global batch, N = r B L the ids
that a part is looked up for, s the bytes of a number of a row and t those of its
optimizer state, U = R (1 - exp(-N / R)) the rows among them, each once, where R is the
part's rows, and D the numbers of the vectors that leave the lookup:

    lookup       (N w s + 4 D) / memory     rows read, vectors written
    update       (4 D + N w 4 + 2 U w (s + t)) / memory
                                            gradients read and spread, rows and state
                                            read and written
    exchange     within node / intra_node_gbps + between nodes / inter_node_gbps
    dense        operations of forward and backward / tflops
    all-reduce   2 (W - 1) / W, times the bytes of dense gradients, over the slowest
                 link on the way

``memory`` is ``hbm_gbps`` for tables on a GPU. Under ``fused_uvm`` rows go through
``ddr_gbps``; under ``fused_uvm_caching`` all but a share of them, that of the rows
which the cache holds: as if ids were even, which is the worst case. Terms are added, as
if nothing overlapped, and each runs at the rate of the data sheet: what is left out is
told in ``docs/planning.md``.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from dlrm.config.hardware import HardwareConfig
from dlrm.config.sharding import Storage, Strategy
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.embeddings.storage import DEFAULT_CACHE_LOAD_FACTOR, IN_HOST_MEMORY
from dlrm.planning.dense_part import DensePart
from dlrm.planning.table_loads import TableLoad
from dlrm.planning.traffic import Flow, JobShape, table_traffic

_GIGA = 1e9
_TERA = 1e12
_MS = 1e3
_VECTOR_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """Milliseconds of one step of one process."""

    lookup: float = 0.0
    update: float = 0.0
    exchange_ids: float = 0.0
    exchange_vectors: float = 0.0
    exchange_gradients: float = 0.0
    dense: float = 0.0
    all_reduce: float = 0.0

    @property
    def total(self) -> float:
        """All terms, one after the other."""
        return sum(self.by_term().values())

    @property
    def largest(self) -> str:
        """The name of the largest term."""
        terms = self.by_term()
        return max(terms, key=lambda name: terms[name])

    def __add__(self, other: StepTime) -> StepTime:
        """Add term by term."""
        theirs = other.by_term()
        return StepTime(**{k: v + theirs[k] for k, v in self.by_term().items()})

    def by_term(self) -> dict[str, float]:
        """Return the milliseconds by the term's name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def plan_times(
    plan: Plan,
    loads: dict[str, TableLoad],
    dense: DensePart,
    shape: JobShape,
    hardware: HardwareConfig,
) -> list[StepTime]:
    """Return every process's step time."""
    flops = dense.flops.at(shape.local_batch_size)
    everyone = StepTime(
        dense=flops / (hardware.tflops * _TERA) * _MS,
        all_reduce=_all_reduce_ms(dense.parameter_bytes, plan, shape, hardware),
    )
    found = [everyone] * plan.world_size
    for name, table in plan.tables.items():
        times = table_times(table, loads[name], plan, shape, hardware)
        found = [total + own for total, own in zip(found, times, strict=True)]
    return found


def table_times(
    table: TablePlan,
    load: TableLoad,
    plan: Plan,
    shape: JobShape,
    hardware: HardwareConfig,
) -> list[StepTime]:
    """Return every process's time for one table."""
    found = [
        StepTime(
            exchange_ids=_flow_ms(traffic.ids, hardware),
            exchange_vectors=_flow_ms(traffic.vectors, hardware),
            exchange_gradients=_flow_ms(traffic.gradients, hardware),
        )
        for traffic in table_traffic(table, load, plan, shape)
    ]
    for part in table.parts:
        found[part.rank] += _part_time(part, table, load, plan, shape, hardware)
    return found


def _part_time(
    part: Part,
    table: TablePlan,
    load: TableLoad,
    plan: Plan,
    shape: JobShape,
    hardware: HardwareConfig,
) -> StepTime:
    """Return the time of looking up a part's rows and of training them."""
    if not part.num_rows:
        return StepTime()
    everyone = plan.world_size * shape.local_batch_size
    # A replica is looked up for its own examples, and trained on everyone's.
    is_replica = table.strategy is Strategy.data_parallel
    asked = shape.local_batch_size if is_replica else everyone
    everyone *= shape.replicas if is_replica else 1
    share = part.num_rows / load.num_rows
    per_vector = 1.0 if load.is_pooled else share
    row = part.num_columns * load.weight_bytes
    state = part.num_columns * load.state_bytes_per_value + load.state_bytes_per_row
    vector = load.vectors_per_example * per_vector * part.num_columns * _VECTOR_BYTES
    speed = _memory_gbps(table, shape, hardware)

    read = share * asked * load.ids_per_example
    lookup = read * row / speed + asked * vector / _device_gbps(hardware)
    trained = share * everyone * load.ids_per_example
    unique = part.num_rows * -math.expm1(-trained / part.num_rows)
    spread = trained * part.num_columns * _VECTOR_BYTES + everyone * vector
    update = spread / _device_gbps(hardware) + 2 * unique * (row + state) / speed
    return StepTime(lookup=lookup / _GIGA * _MS, update=update / _GIGA * _MS)


def _device_gbps(hardware: HardwareConfig) -> float:
    return hardware.ddr_gbps if hardware.on_cpu else hardware.hbm_gbps


def _memory_gbps(table: TablePlan, shape: JobShape, hardware: HardwareConfig) -> float:
    """Return the rate at which a table's rows come."""
    fast = _device_gbps(hardware)
    if table.storage not in IN_HOST_MEMORY or not shape.on_gpu:
        return fast
    if table.storage is not Storage.fused_uvm_caching:
        return hardware.ddr_gbps
    hits = table.cache_load_factor or DEFAULT_CACHE_LOAD_FACTOR
    return 1 / (hits / fast + (1 - hits) / hardware.ddr_gbps)


def _flow_ms(flow: Flow, hardware: HardwareConfig) -> float:
    seconds = (
        flow.within_node / hardware.intra_node_gbps
        + flow.between_nodes / hardware.inter_node_gbps
    ) / _GIGA
    return seconds * _MS


def _all_reduce_ms(
    num_bytes: int, plan: Plan, shape: JobShape, hardware: HardwareConfig
) -> float:
    world = plan.world_size * shape.replicas
    several_nodes = world > plan.ranks_per_node
    rate = hardware.inter_node_gbps if several_nodes else hardware.intra_node_gbps
    return 2 * (world - 1) / world * num_bytes / (rate * _GIGA) * _MS
