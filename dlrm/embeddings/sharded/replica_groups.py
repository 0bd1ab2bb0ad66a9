"""Several groups of processes that hold all tables each: 2-D parallelism.

Inside a group the tables lie as the plan says, and train on the group's examples. Now
and then the rows of all groups, and their optimizer state, become their mean. Ids and
vectors then travel inside a group alone, however many groups there are.

Zhang et al. 2025, "Two-dimensional Sparse Parallelism for Large Scale Deep Learning
Recommendation Model Training", arXiv 2508.03854; torchrec's ``DMPCollection``.

A group of W / R of the W processes sees the gradient of its own examples, times R: the
mean of the groups' rows after one step of plain SGD is the row after one step on all
examples. Data-parallel tables are trained on all examples anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.distributed.plan import TablePlan
from dlrm.embeddings.kernel_options import TableConfig, table_dtype
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.node_groups import node_groups
from dlrm.embeddings.state import USES, table_parts
from dlrm.embeddings.table_config import options_of

_REMEDY = "Set sharding.exact=false, sharding.replicas=1, or data_parallel"


@dataclass(frozen=True, slots=True)
class ReplicaGroups:
    """A process's places among processes that hold the tables several times."""

    world: dist.ProcessGroup
    sharding: dist.ProcessGroup
    """Those that hold the tables together, neighbours in ``world``: where nodes divide
    into groups, or groups into nodes, the ids of every step stay inside as few nodes
    as can be."""
    replicas: dist.ProcessGroup | None
    """Those that hold the same parts, one of each group; None for one group."""


def group_size(world_size: int, num_replicas: int) -> int:
    """Return how many processes hold the tables together.

    Raises:
        ConfigError: The groups would not be equally large.
    """
    if world_size % num_replicas:
        raise ConfigError(
            f"sharding.replicas must divide the number of processes, {world_size}, but "
            f"it is {num_replicas}. Start as many as replicas times a whole number."
        )
    return world_size // num_replicas


def replica_groups(world: dist.ProcessGroup, num_replicas: int) -> ReplicaGroups:
    """Return this process's groups; all processes of ``world`` call this.

    Raises:
        ConfigError: The groups would not be equally large.
    """
    group_size(world.size(), num_replicas)
    if num_replicas == 1:
        return ReplicaGroups(world, world, None)
    sharding, replicas = node_groups(world, world.size() // num_replicas)
    return ReplicaGroups(world, sharding, replicas)


def refuse_replicas(
    table: TableConfig,
    plan: TablePlan,
    *,
    optimizer: SparseOptimizer,
    sharding: ShardingConfig,
) -> None:
    """Check that a table may be trained by several groups and averaged.

    Args:
        table: Its config.
        plan: Where it lies in a group.
        optimizer: Of tables without their own.
        sharding: How many groups, how often they meet, and whether what one process
            would do is asked for.

    Raises:
        ConfigError: The mean of the groups' tables is not what one process would train,
            or is not defined.
    """
    options, own = options_of(table), options_of(table).optimizer.resolved(optimizer)
    if sharding.replicas == 1 or options.frozen:
        return
    if plan.strategy is Strategy.data_parallel:
        return
    name = table_name(table.name)
    if options.admit_after:
        raise ConfigError(
            f"sharding.replicas={sharding.replicas} does not go with "
            f"admit_after={options.admit_after} of table '{name}': each group counts "
            f"the uses in its own examples. Set admit_after=0, sharding.replicas=1, or "
            f"data_parallel for the table."
        )
    inexact = {
        f"optimizer {own.name.value}": own.name is not SparseOptimizerName.sgd,
        f"weight_decay={own.weight_decay}": own.weight_decay != 0.0,
        f"clip_value={own.clip_value}": own.clip_value is not None,
        f"max_norm={options.max_norm}": options.max_norm is not None,
        "scale_grad_by_freq=true": options.scale_grad_by_freq,
        "rows of 16 bits": table_dtype(table) is not torch.float32,
    }
    reason = next((reason for reason, holds in inexact.items() if holds), None)
    if sharding.exact and reason is not None:
        raise ConfigError(
            f"sharding.replicas={sharding.replicas} trains table '{name}' with "
            f"{reason} otherwise than one process would: only the steps of plain sgd "
            f"on float32 rows have a mean that is the step on all examples. {_REMEDY} "
            f"for the table."
        )


class TableSync:
    """Makes the tables of all groups equal; does nothing where there is one group.

    All processes call the same methods after the same steps. Before the tables are
    evaluated or saved they are made equal too, so that what is seen and stored is one
    model: evaluations and checkpoints are part of the schedule, and a run that is
    resumed from a checkpoint goes on as the one that wrote it did.
    """

    def __init__(
        self,
        model: nn.Module,
        world: dist.ProcessGroup | None,
        sharding: ShardingConfig,
    ) -> None:
        """Take the groups that ``to_sharded`` made; ``world`` None is one process."""
        self._model, self._every = model, sharding.sync_every
        self._group: dist.ProcessGroup | None = None
        if world is not None:
            self._group = replica_groups(world, sharding.replicas).replicas
        self._is_due = False

    def after_step(self, num_steps: int) -> None:
        """Count a step, ``num_steps`` in all, and average where it is time."""
        self._is_due = self._group is not None
        if num_steps % self._every == 0:
            self.now()

    def now(self) -> None:
        """Average, unless no step was taken since the last time."""
        if self._is_due and self._group is not None:
            average_tables(self._model, self._group)
        self._is_due = False


# Of one table at a time: what lies in the host's memory must pass through the GPU's.
_VALUES_PER_CHUNK = 2**24


def average_tables(model: nn.Module, group: dist.ProcessGroup) -> None:
    """Replace tables and optimizer state by their mean over ``group``.

    Its processes hold the same parts. Data-parallel tables are left alone.
    """
    for part in table_parts(model):
        if part.strategy is Strategy.data_parallel:
            continue
        for name, values in part.columns.items():
            if name != USES:
                _average(values.view(-1), group)


def _average(values: torch.Tensor, group: dist.ProcessGroup) -> None:
    for chunk in values.split(_VALUES_PER_CHUNK):
        total = chunk.to(torch.float32, copy=True)
        dist.all_reduce(total, group=group)
        chunk.copy_(total.div_(group.size()))
