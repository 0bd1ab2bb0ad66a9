"""Sharded tables as a checkpoint sees them: in rows and columns of the whole table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Strategy
from dlrm.embeddings.bags import Bags
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.collections import ShardedBags, ShardedSequences
from dlrm.embeddings.sharded.placement import Part
from dlrm.embeddings.sharded.replicas import ReplicatedBags, ReplicatedSequences


@dataclass(frozen=True, slots=True)
class TablePart:
    """Live views of this process's part of a table: writing changes the model."""

    table: str
    config: Any
    """The whole table's."""
    strategy: Strategy
    part: Part
    bags: Bags
    index: int
    """Of the part among the tables of ``bags``."""

    @property
    def weight(self) -> torch.Tensor:
        """[rows, columns] of the part."""
        return self.bags.weight(self.index)

    @property
    def columns(self) -> dict[str, torch.Tensor]:
        """Weight, optimizer state and counters, by canonical name.

        Each is [rows, columns] of the part, or [rows].
        """
        return {
            "weight": self.weight,
            **self.bags.optimizer_state(self.index),
            **self.bags.counters(self.index),
        }

    def load(self, whole: WholeTable) -> None:
        """Take the part's rows and columns of ``whole``."""
        for name, values in self.columns.items():
            source = whole.columns[name][self.part.rows]
            values.copy_(source if values.dim() == 1 else source[:, self.part.columns])
        self.bags.step = whole.step


@dataclass(slots=True)
class WholeTable:
    """A table with its optimizer state, copied from all processes."""

    columns: dict[str, torch.Tensor] = field(default_factory=dict)
    """``weight`` [num_embeddings, embedding_dim]; optimizer state and counters by
    canonical name, each of that shape or [num_embeddings]."""
    step: int = 0
    """Steps that bias correction has counted."""

    @property
    def weight(self) -> torch.Tensor:
        """[num_embeddings, embedding_dim]."""
        return self.columns["weight"]


def table_parts(model: nn.Module) -> list[TablePart]:
    """Return this process's parts of all tables in ``model``.

    Raises:
        ConfigError: Two collections hold tables of one name.
    """
    parts = [
        part
        for module in model.modules()
        for part in _parts_of(module)
        if part.part.num_rows
    ]
    names = [part.table for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Table names must be unique in a model, but two collections have a "
                f"table '{name}'. Rename one of them."
            )
    return parts


def _parts_of(module: nn.Module) -> list[TablePart]:
    if isinstance(module, ShardedBags | ShardedSequences):
        return [
            part
            for tables in module.own_tables
            for part in _parts_in(tables.kernels, module)
        ]
    if isinstance(module, ReplicatedBags | ReplicatedSequences):
        return [
            TablePart(
                table=table_name(config.name),
                config=config,
                strategy=Strategy.data_parallel,
                part=Part(0, 0, config.num_embeddings, 0, config.embedding_dim),
                bags=bags,
                index=index,
            )
            for bags in module.tables.kernels
            for index, config in enumerate(bags.tables)
        ]
    return []


def _parts_in(
    kernels: list[Bags], module: ShardedBags | ShardedSequences
) -> list[TablePart]:
    whole = {config.name: config for config in module.configs}
    rank = module._env.rank
    return [
        TablePart(
            table=table_name(config.name),
            config=whole[config.name],
            strategy=module.strategies[config.name],
            part=next(p for p in module.parts[config.name] if p.rank == rank),
            bags=bags,
            index=index,
        )
        for bags in kernels
        for index, config in enumerate(bags.tables)
    ]
