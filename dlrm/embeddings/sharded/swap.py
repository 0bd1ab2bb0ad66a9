"""Swap a model's embedding collections for sharded ones, and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import ShardingConfig
from dlrm.distributed.plan import Plan
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.building import Building
from dlrm.embeddings.sharded.communication import refuse_communication
from dlrm.embeddings.sharded.plan_check import check_plan
from dlrm.embeddings.sharded.refusals import refuse_options
from dlrm.embeddings.sharded.replica_groups import refuse_replicas, replica_groups
from dlrm.embeddings.sharded.split import SplitBags, SplitSequences
from dlrm.embeddings.sharded.whole_tables import gather_tables
from dlrm.embeddings.state import table_parts

_Plain: TypeAlias = EmbeddingBagCollection | EmbeddingCollection
_Split: TypeAlias = SplitBags | SplitSequences


def to_sharded(
    model: nn.Module,
    *,
    plan: Plan,
    optimizer: SparseOptimizer,
    group: dist.ProcessGroup,
    device: torch.device,
    initial: InitialValues | None = None,
    trainable: bool = True,
    sharding: ShardingConfig | None = None,
) -> None:
    """Replace every torchrec collection inside ``model`` by a sharded one.

    All processes of ``group`` call this with equal arguments. A step then takes the
    mean over the processes of the tables' gradients: each backpropagates the number of
    processes times its share of the loss of the union batch. Its slices have equally
    many rows, the shorter ones padded with empty bags.

    Args:
        model: Changed in place; must not itself be a collection. Its collections' own
            values are not read.
        plan: Where the tables lie: on all processes, or those of one of
            ``sharding.replicas`` groups.
        optimizer: Of tables without their own.
        group: The processes.
        device: Of this process's tables.
        initial: Initial values; tables start at zero without.
        trainable: Whether to keep optimizer state and give gradients.
        sharding: Its exactness, communication and replicas are kept; the defaults
            where None.

    Raises:
        ConfigError: A table's options do not go with its strategy, or the plan is not
            one of these tables on these processes.
    """
    sharding = sharding or ShardingConfig()
    found = _children(model, _Plain)
    configs = collection_configs(model)
    groups = replica_groups(group, sharding.replicas)
    check_plan(plan, configs, world_size=groups.sharding.size())
    tables = {config.name: plan.tables[table_name(config.name)] for config in configs}
    for config in configs:
        strategy = tables[config.name].strategy
        refuse_options(config, strategy, optimizer=optimizer, exact=sharding.exact)
        refuse_communication(sharding.communication, config, tables[config.name])
        refuse_replicas(
            config, tables[config.name], optimizer=optimizer, sharding=sharding
        )
    building = Building(
        tables=tables,
        ranks_per_node=plan.ranks_per_node,
        communication=sharding.communication,
        optimizer=optimizer,
        group=groups.sharding,
        world=groups.world,
        device=device,
        trainable=trainable,
    )
    for parent, name, plain in found:
        setattr(parent, name, building.of(plain).train(plain.training))
    if initial is not None:
        for part in table_parts(model):
            place = part.part
            initial.fill(part.config, part.weight, place.first_row, place.first_column)


def to_plain(model: nn.Module, group: dist.ProcessGroup) -> None:
    """Replace every sharded collection by torchrec's own, whole on every process.

    All processes of ``group`` call this. A table keeps its type and its stored rows to
    the bit.
    """
    wholes = gather_tables(model, group)
    for parent, name, split in _children(model, _Split):
        plain = split.plain()
        bags = isinstance(plain, EmbeddingBagCollection)
        rows = plain.embedding_bags if bags else plain.embeddings
        for config in _configs(plain):
            weight = wholes[table_name(config.name)].weight
            rows[config.name].weight = nn.Parameter(weight)
        setattr(parent, name, plain.train(split.training))


def collection_configs(model: nn.Module) -> list[TableConfig]:
    """Return the configs of all torchrec's collections inside ``model``, in order."""
    found = _children(model, _Plain)
    return [config for _, _, plain in found for config in _configs(plain)]


def _children(model: nn.Module, kind: Any) -> list[tuple[nn.Module, str, Any]]:
    """Return parent, name and module of every ``kind`` inside ``model``."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]


def _configs(plain: _Plain) -> list[TableConfig]:
    if isinstance(plain, EmbeddingBagCollection):
        return list(plain.embedding_bag_configs())
    return list(plain.embedding_configs())
