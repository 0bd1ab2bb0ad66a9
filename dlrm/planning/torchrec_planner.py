"""torchrec's planner, told what our tables can do and what they really take.

The planner proposes, places and compares. Bytes and milliseconds are those of
``dlrm.planning.memory`` and ``dlrm.planning.step_time`` in place of its own estimates,
which know neither our tables' optimizers nor how our replicas are trained.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.proposers import (
    GreedyProposer,
    GridSearchProposer,
    UniformProposer,
)
from torchrec.distributed.planner.types import (
    HardwareConfig as TorchrecHardware,
)
from torchrec.distributed.planner.types import (
    KernelConfig,
    ParameterConstraints,
    PlannerError,
    ShardingOption,
    StorageReservation,
    Topology,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import CacheParams
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.hardware import HardwareConfig
from dlrm.config.sharding import Storage, Strategy
from dlrm.distributed.plan import Plan, TablePlan
from dlrm.planning.machine import Capacity
from dlrm.planning.memory import RankMemory
from dlrm.planning.shard_estimates import (
    IN_TORCHREC,
    STRATEGIES,
    Choices,
    OwnEstimates,
    as_table,
)
from dlrm.planning.table_loads import TableLoad
from dlrm.planning.traffic import JobShape

_MAX_PROPOSALS = 1000
_BYTES_PER_MS = 1e6
"""Of 10^9 bytes a second."""


class PlannerFailedError(Exception):
    """torchrec's planner found no plan; the text is its own reasoning."""


def plan_by_torchrec(
    loads: Mapping[str, TableLoad],
    choices: Mapping[str, Choices],
    *,
    taken: Sequence[RankMemory],
    frame: Plan,
    shape: JobShape,
    hardware: HardwareConfig,
    capacity: Capacity,
) -> dict[str, TablePlan]:
    """Return where torchrec's planner puts the tables of ``choices``.

    Args:
        loads: Of all tables, by name.
        choices: What it may do with each of those that it places.
        taken: Bytes of each process that other things take.
        frame: The processes; its tables are not read.
        shape: The job.
        hardware: Rates.
        capacity: What each process may fill.

    Raises:
        PlannerFailedError: Nothing that the planner tried fits.
    """
    device = "cuda" if shape.on_gpu else "cpu"
    topology = _topology(frame, hardware, capacity, device)
    by_config_name = {loads[name].config.name: loads[name] for name in choices}
    constraints = {
        loads[name].config.name: _constraints(loads[name], choice)
        for name, choice in choices.items()
    }
    estimator = OwnEstimates(topology)
    estimator.tell(by_config_name, choices, frame, shape, hardware)
    with _quiet_torchrec():
        planner = EmbeddingShardingPlanner(
            topology=topology,
            batch_size=shape.local_batch_size,
            enumerator=_Enumerator(
                topology=topology,
                batch_size=shape.local_batch_size,
                constraints=constraints,
                estimator=estimator,
            ),
            # torchrec's own, of which the first would try 10,000 plans of few tables.
            proposer=[
                GridSearchProposer(max_proposals=_MAX_PROPOSALS),
                GreedyProposer(),
                GreedyProposer(use_depth=False),
                UniformProposer(),
            ],
            storage_reservation=_Taken(estimator.reserved(taken), shape.on_gpu),
            constraints=constraints,
            stats=[],
            debug=False,
        )
        try:
            planner.plan(_collections(list(by_config_name.values())), _sharders())
        except PlannerError as error:
            raise PlannerFailedError(_text(error)) from error
    return {
        by_config_name[option.name].name: _table_plan(option, choices, by_config_name)
        for option in planner._best_plan or []
    }


def _table_plan(
    option: ShardingOption,
    choices: Mapping[str, Choices],
    loads: Mapping[str, TableLoad],
) -> TablePlan:
    name = loads[option.name].name
    ranks = [int(shard.rank) for shard in option.shards]
    return as_table(option, choices[name], ranks)


class _Enumerator(EmbeddingEnumerator):
    """Lists options in one order: torchrec's comes from sets of text."""

    def _filter_sharding_types(self, *args: Any, **kwargs: Any) -> list[str]:
        return sorted(super()._filter_sharding_types(*args, **kwargs))

    def _filter_compute_kernels(
        self, name: str, allowed_compute_kernels: list[str], sharding_type: str
    ) -> list[str]:
        if sharding_type == Strategy.data_parallel.value:
            # Constraints on kernels are of tables that are not replicated.
            return [EmbeddingComputeKernel.DENSE.value]
        return sorted(
            super()._filter_compute_kernels(
                name, allowed_compute_kernels, sharding_type
            )
        )


class _Taken(StorageReservation):
    """Takes off each process what is not to be planned with."""

    _percentage = 0.0
    """torchrec reads it when it words a failure."""

    def __init__(self, taken: Sequence[tuple[int, int]], on_gpu: bool) -> None:
        self._amounts, self._on_gpu = taken, on_gpu
        self._last: Topology | None = None

    def reserve(self, topology: Topology, *args: Any, **kwargs: Any) -> Topology:
        left = copy.deepcopy(topology)
        for device, (own, host) in zip(left.devices, self._amounts, strict=True):
            if self._on_gpu:
                device.storage.hbm = max(0, device.storage.hbm - own)
                device.storage.ddr = max(0, device.storage.ddr - host)
            else:
                device.storage.ddr = max(0, device.storage.ddr - own)
        self._last = left
        return left

    @property
    def last_reserved_topology(self) -> Topology | None:
        return self._last


class _AnyStrategy:
    """What our sharded collections run, on any device."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return list(STRATEGIES)

    def compute_kernels(
        self, sharding_type: str, compute_device_type: str
    ) -> list[str]:
        if sharding_type == Strategy.data_parallel.value:
            return [EmbeddingComputeKernel.DENSE.value]
        kinds = (Storage.fused, Storage.fused_uvm, Storage.fused_uvm_caching)
        return [kind.value for kind in kinds]


class _BagSharder(_AnyStrategy, EmbeddingBagCollectionSharder):
    pass


class _SequenceSharder(_AnyStrategy, EmbeddingCollectionSharder):
    pass


def _sharders() -> list[Any]:
    return [_BagSharder(), _SequenceSharder()]


def _collections(loads: Sequence[TableLoad]) -> nn.Module:
    """Return collections of these tables alone, for the planner to look at."""
    meta = torch.device("meta")
    found: list[nn.Module] = []
    for weighted in (False, True):
        bags = [
            load.config
            for load in loads
            if load.is_pooled and load.is_weighted == weighted
        ]
        if bags:
            found.append(
                EmbeddingBagCollection(tables=bags, is_weighted=weighted, device=meta)
            )
    # A collection of sequences has one width.
    for width in sorted({load.width for load in loads if not load.is_pooled}):
        rows = [
            load.config for load in loads if not load.is_pooled and load.width == width
        ]
        found.append(EmbeddingCollection(tables=rows, device=meta))
    return nn.ModuleList(found)


def _constraints(load: TableLoad, choice: Choices) -> ParameterConstraints:
    kernel = Storage.fused if choice.storage is Storage.dense else choice.storage
    share = choice.cache_load_factor
    return ParameterConstraints(
        sharding_types=[IN_TORCHREC[strategy] for strategy in choice.strategies],
        compute_kernels=[kernel.value],
        min_partition=load.width // choice.num_column_shards,
        pooling_factors=[load.ids_per_example / load.num_features] * load.num_features,
        is_weighted=load.is_weighted,
        cache_params=None if share is None else CacheParams(load_factor=share),
    )


def _topology(
    frame: Plan, hardware: HardwareConfig, capacity: Capacity, device: str
) -> Topology:
    # On a CPU all memory is the host's.
    host = capacity.host if device == "cuda" else capacity.device
    # torchrec takes nodes to be equally large; no strategy of nodes is asked for else.
    even = frame.world_size % frame.ranks_per_node == 0
    with _quiet_torchrec():
        return TopologyFactory.create_topology(
            TrainerConfig(
                world_size=frame.world_size,
                local_world_size=frame.ranks_per_node if even else frame.world_size,
                hbm_cap_bytes=capacity.device if device == "cuda" else None,
                ddr_cap_bytes=host,
            ),
            TorchrecHardware(
                intra_host_bw=hardware.intra_node_gbps * _BYTES_PER_MS,
                inter_host_bw=hardware.inter_node_gbps * _BYTES_PER_MS,
                hbm_mem_bw=hardware.hbm_gbps * _BYTES_PER_MS,
                ddr_mem_bw=hardware.ddr_gbps * _BYTES_PER_MS,
                hbm_to_ddr_mem_bw=hardware.ddr_gbps * _BYTES_PER_MS,
            ),
            KernelConfig(compute_device=device),
        )


@contextmanager
def _quiet_torchrec() -> Iterator[None]:
    """Keep torchrec's log out of ours; what matters of it is in its errors."""
    # It speaks through many loggers, the root's among them.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _text(error: PlannerError) -> str:
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return "\n".join(line for line in lines if line)
