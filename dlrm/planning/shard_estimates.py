"""What a shard takes, told to torchrec's planner in its own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchrec.distributed.planner.types import (
    ParameterConstraints,
    Perf,
    ShardEstimator,
    ShardingOption,
    Topology,
)
from torchrec.distributed.planner.types import (
    Storage as TorchrecStorage,
)

from dlrm.config.hardware import HardwareConfig
from dlrm.config.sharding import Storage, Strategy
from dlrm.distributed.plan import Part, Plan, TablePlan
from dlrm.planning.memory import RankMemory, part_memory
from dlrm.planning.step_time import StepTime, table_times
from dlrm.planning.table_loads import TableLoad
from dlrm.planning.traffic import JobShape, table_traffic

_PART_MS = 0.005
"""Of starting the kernels of a part: a table is divided where that gains more."""
IN_TORCHREC = {strategy: strategy.value for strategy in Strategy}
IN_TORCHREC[Strategy.grid] = "grid_shard"
STRATEGIES = {name: strategy for strategy, name in IN_TORCHREC.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What the planner may do with one table."""

    strategies: tuple[Strategy, ...]
    storage: Storage
    num_column_shards: int
    cache_load_factor: float | None = None


def as_table(
    option: ShardingOption, choice: Choices, ranks: Sequence[int]
) -> TablePlan:
    """Return a torchrec option as ours, its shards on ``ranks``."""
    strategy = STRATEGIES[option.sharding_type]
    parts = tuple(
        Part(rank, shard.offset[0], shard.size[0], shard.offset[1], shard.size[1])
        for rank, shard in zip(ranks, option.shards, strict=True)
    )
    replica = strategy is Strategy.data_parallel
    return TablePlan(
        strategy=strategy,
        parts=parts,
        storage=Storage.fused if replica else choice.storage,
        cache_load_factor=None if replica else choice.cache_load_factor,
    )


class OwnEstimates(ShardEstimator):
    """Estimates a shard's bytes and time as the rest of this room does.

    What every process takes part in, whoever keeps a table, is reserved beforehand.
    """

    def __init__(
        self,
        topology: Topology,
        constraints: dict[str, ParameterConstraints] | None = None,
    ) -> None:
        self._topology = topology

    def tell(
        self,
        loads: Mapping[str, TableLoad],
        choices: Mapping[str, Choices],
        frame: Plan,
        shape: JobShape,
        hardware: HardwareConfig,
    ) -> None:
        """Set what tables there are, by the names of their configs."""
        self._loads, self._choices = loads, choices
        self._frame, self._shape, self._hardware = frame, shape, hardware
        self._everyone = {name: self._asking(load) for name, load in loads.items()}

    def reserved(self, taken: Sequence[RankMemory]) -> list[tuple[int, int]]:
        """Return the device's and the host's bytes that are not to be planned with."""
        everyone = sum(self._everyone.values())
        return [(t.device.total + everyone, t.host.total) for t in taken]

    def estimate(
        self, sharding_options: list[ShardingOption], sharder_data_map: Any = None
    ) -> None:
        """Set storage and time of every shard."""
        for option in sharding_options:
            load = self._loads[option.name]
            # Before they are placed, shards stand on the first processes in turn.
            ranks = [i % self._frame.world_size for i in range(len(option.shards))]
            table = as_table(option, self._choices[load.name], ranks)
            job = load, self._frame, self._shape
            traffic = table_traffic(table, *job)
            times = table_times(table, *job, self._hardware)
            for shard, part in zip(option.shards, table.parts, strict=True):
                own = part_memory(part, table, load, self._shape)
                busy = traffic[part.rank].buffers + traffic[part.rank].ids.received
                extra = max(0, round(busy) - self._everyone[option.name])
                # Ranges of columns that share a process share what it exchanges.
                shared = ranks.count(part.rank)
                shard.storage = self._storage(
                    own.device.total + extra // shared, own.host.total
                )
                shard.perf = _perf(times[part.rank], shared)

    def _storage(self, device: int, host: int) -> TorchrecStorage:
        if self._shape.on_gpu:
            return TorchrecStorage(hbm=device, ddr=host)
        return TorchrecStorage(hbm=0, ddr=device)

    def _asking(self, load: TableLoad) -> int:
        """Return the bytes of a process that asks for vectors and keeps none."""
        whole = Part(0, 0, load.num_rows, 0, load.width)
        table = TablePlan(strategy=Strategy.table_wise, parts=(whole,))
        return table_traffic(table, load, self._frame, self._shape)[-1].buffers


def _perf(time: StepTime, shared: int) -> Perf:
    return Perf(
        fwd_compute=time.lookup / shared + _PART_MS,
        fwd_comms=time.exchange_vectors / shared,
        bwd_compute=time.update / shared,
        bwd_comms=time.exchange_gradients / shared,
        input_dist_comms=time.exchange_ids / shared,
    )
