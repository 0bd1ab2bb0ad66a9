"""Swap a model's embedding collections for sharded ones, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Strategy
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.building import Sharding
from dlrm.embeddings.sharded.placement import place_tables
from dlrm.embeddings.sharded.refusals import refuse_options
from dlrm.embeddings.sharded.split import SplitBags, SplitSequences
from dlrm.embeddings.sharded.state import table_parts
from dlrm.embeddings.sharded.whole_tables import gather_tables

_Plain: TypeAlias = EmbeddingBagCollection | EmbeddingCollection
_Split: TypeAlias = SplitBags | SplitSequences


def to_sharded(
    model: nn.Module,
    *,
    strategies: Mapping[str, Strategy],
    default: Strategy,
    optimizer: SparseOptimizer,
    group: dist.ProcessGroup,
    device: torch.device,
    initial: InitialValues | None = None,
    trainable: bool = True,
) -> None:
    """Replace every torchrec collection inside ``model`` by a sharded one.

    All processes of ``group`` call this with equal arguments. A step then takes the
    mean over the processes of the tables' gradients: each backpropagates the number of
    processes times its share of the loss of the union batch. Its slices have equally
    many rows, the shorter ones padded with empty bags.

    Args:
        model: Changed in place; must not itself be a collection. Its collections' own
            values are not read.
        strategies: How a table lies on the processes, by its name.
        default: How the tables that ``strategies`` does not name lie.
        optimizer: Of tables without their own.
        group: The processes.
        device: Of this process's tables.
        initial: Initial values; tables start at zero without.
        trainable: Whether to keep optimizer state and give gradients.

    Raises:
        ConfigError: A table's options do not go with its strategy, or a strategy is
            given for no table.
    """
    found = _children(model, _Plain)
    configs = [config for _, _, plain in found for config in _configs(plain)]
    _refuse_unknown(strategies, {table_name(config.name) for config in configs})
    chosen = {c.name: strategies.get(table_name(c.name), default) for c in configs}
    for config in configs:
        refuse_options(
            config, chosen[config.name], optimizer=optimizer, world_size=group.size()
        )
    sharding = Sharding(
        strategies=chosen,
        parts=place_tables(configs, chosen, group.size()),
        optimizer=optimizer,
        group=group,
        device=device,
        trainable=trainable,
    )
    for parent, name, plain in found:
        setattr(parent, name, sharding.of(plain).train(plain.training))
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


def set_sparse_rate_factor(model: nn.Module, factor: float) -> None:
    """Train each table at ``factor`` times its rate from the next forward pass on."""
    for part in table_parts(model):
        part.bags.set_rate_factor(factor)


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


def _refuse_unknown(strategies: Mapping[str, Strategy], tables: set[str]) -> None:
    unknown = sorted(set(strategies) - tables)
    if unknown:
        raise ConfigError(
            f"Sharding strategies must be given for tables of the model, but it has "
            f"none called '{unknown[0]}'. Its tables are: {', '.join(sorted(tables))}."
        )
