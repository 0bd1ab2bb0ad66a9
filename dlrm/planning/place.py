"""A model's tables put where its job keeps them: in this process, or over several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.hardware import HardwareConfig
from dlrm.config.optimizer import DenseOptimizer, SparseOptimizer
from dlrm.config.schema import FeatureSchema
from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.distributed.job import Job
from dlrm.distributed.plan import Plan
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.placement import OF_NODES
from dlrm.embeddings.sharded.replica_groups import group_size
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.planning.plan import Planned, plan_model

_WHOLE_BAGS = (Strategy.table_wise, Strategy.column_wise, Strategy.data_parallel)
"""A bag's sum is then one process's, to the bit: no sums of sums."""


def place_tables_of(
    model: nn.Module,
    *,
    job: Job,
    device: torch.device,
    optimizer: SparseOptimizer,
    sharding: ShardingConfig,
    hardware: HardwareConfig | None,
    global_batch_size: int,
    initial: InitialValues | None = None,
    trainable: bool = True,
    schema: FeatureSchema | None = None,
    dense_optimizer: DenseOptimizer | None = None,
    average_lengths: Mapping[str, float] | None = None,
) -> Plan | None:
    """Replace ``model``'s plain collections by ones that train themselves.

    All processes of the job call this with equal arguments; the first one plans for
    all. The dense part goes to ``device`` too. Tables that are not to be trained are
    not divided by rows if they fit otherwise, whatever ``sharding`` says: predictions
    are then the same numbers on any number of processes. The last three arguments tell
    the planner of the dense part and of the bags, where it is to count them.

    Returns:
        The plan; None for one process, which keeps every table whole.

    Raises:
        UserError: The tables do not fit, or do not go with what they are asked for.
    """
    group_size(job.world_size, sharding.replicas)
    plan = None
    if job.group is None:
        to_local(
            model,
            optimizer=optimizer,
            device=device,
            initial=initial,
            trainable=trainable,
            storage=sharding.storage,
        )
    else:
        planned = partial(
            plan_model,
            model,
            sharding=sharding,
            hardware=hardware,
            optimizer=optimizer,
            world_size=job.world_size,
            ranks_per_node=job.ranks_per_node,
            device_type=device.type,
            global_batch_size=global_batch_size,
            average_lengths=average_lengths,
            schema=schema,
            dense_optimizer=dense_optimizer,
        )
        plan = _plan_of_job(job, planned, trainable=trainable)
        to_sharded(
            model,
            plan=plan,
            optimizer=optimizer,
            group=job.group,
            device=device,
            initial=initial,
            trainable=trainable,
            sharding=sharding,
        )
    model.to(device)
    return plan


def _plan_of_job(job: Job, planned: Callable[..., Planned], *, trainable: bool) -> Plan:
    """Let the first process plan for all.

    Raises:
        ConfigError: Nothing fits, or the plan needs machines that are alike.
    """

    def chosen() -> Plan:
        if not trainable:
            with suppress(ConfigError):
                return planned(among=_WHOLE_BAGS).plan
        return planned().plan

    plan = job.by_writer(chosen)
    if not job.nodes_are_even:
        _check_no_nodes(plan)
    return plan


def _check_no_nodes(plan: Plan) -> None:
    for name, table in plan.tables.items():
        if table.strategy in OF_NODES:
            raise ConfigError(
                f"Table '{name}' under {table.strategy.value} needs nodes of equally "
                f"many processes, with ranks that count up node by node, but this "
                f"job's are not so. Start equally many on every node (srun: "
                f"--distribution=block), or set sharding.strategy=row_wise."
            )
