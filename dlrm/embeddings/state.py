"""Tables as a checkpoint sees them: in rows and columns of the whole table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.sharding import Strategy
from dlrm.distributed.plan import Part
from dlrm.embeddings.bags import Bags
from dlrm.embeddings.kernel_options import padding_row
from dlrm.embeddings.local import Local
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.collections import ShardedBags, ShardedSequences
from dlrm.embeddings.sharded.replicas import ReplicatedBags, ReplicatedSequences
from dlrm.embeddings.sharded.split import SplitBags, SplitSequences

USES = "uses"
"""A row's lookups in training so far, int32 [rows]; evaluation reads them too."""


@dataclass(frozen=True, slots=True)
class TablePart:
    """Live views of this process's part of a table: writing changes the model."""

    table: str
    config: Any
    """The whole table's."""
    strategy: Strategy | None
    """None for a table of a model that lies on one process, all of it."""
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
        return {"weight": self.weight, **self.optimizer}

    @property
    def optimizer(self) -> dict[str, torch.Tensor]:
        """Optimizer state and counters, by canonical name.

        ``sum``, ``exp_avg``, ``exp_avg_sq``, ``momentum``: each [rows, columns], or
        [rows] where the optimizer keeps one value a row. Beside them ``USES`` where
        lookups admit rows.
        """
        return self.bags.optimizer_state(self.index) | self.bags.counters(self.index)

    def clear_padding(self) -> None:
        """Write zeros into the table's padding row, where it is one of the part's."""
        row = padding_row(self.config)
        if row is not None and self.part.rows.start <= row < self.part.rows.stop:
            self.weight[row - self.part.first_row] = 0.0

    @property
    def key(self) -> str:
        """A name that no other part of this process has."""
        place = self.part
        return f"table/{place.first_row},{place.first_column}/{self.table}"

    @property
    def step(self) -> int:
        """Steps that bias correction has counted; tables of one kernel share it.

        Optimizers without bias correction do not read it.
        """
        return self.bags.step

    def set_step(self, step: int) -> None:
        """Go on as if ``step`` steps had been taken."""
        self.bags.step = step


def table_parts(model: nn.Module) -> list[TablePart]:
    """Return this process's parts of all tables in ``model``.

    Raises:
        ConfigError: Two collections hold tables of one name.
    """
    replicas = (ReplicatedBags, ReplicatedSequences)
    inside = {m.tables for m in model.modules() if isinstance(m, replicas)}
    parts = [
        part
        for module in model.modules()
        if module not in inside
        for part in _parts_of(module)
        if part.part.num_rows
    ]
    seen: set[str] = set()
    for part in parts:
        if part.key in seen:
            raise ConfigError(
                f"Table names must be unique in a model, but two collections have a "
                f"table '{part.table}'. Rename one of them."
            )
        seen.add(part.key)
    return parts


def table_states(model: nn.Module) -> dict[str, TablePart]:
    """Return the tables of a model that lies on one process, by name.

    Raises:
        ConfigError: Two collections hold tables of one name.
    """
    return {part.table: part for part in table_parts(model)}


def table_collections(model: nn.Module) -> list[nn.Module]:
    """Return the modules inside ``model`` that hold tables, and nothing else."""
    kinds = (Local, SplitBags, SplitSequences)
    return [module for module in model.modules() if isinstance(module, kinds)]


def set_sparse_rate_factor(model: nn.Module, factor: float) -> None:
    """Train each table at ``factor`` times its rate from the next forward pass on."""
    for module in model.modules():
        if isinstance(module, ShardedBags | ShardedSequences):
            collections: list[Any] = list(module.own_tables)
        elif isinstance(module, Local):
            collections = [module]
        else:
            continue
        for tables in collections:
            for bags in tables.kernels:
                bags.set_rate_factor(factor)


def _parts_of(module: nn.Module) -> list[TablePart]:
    if isinstance(module, ShardedBags | ShardedSequences):
        return [
            part
            for tables in module.own_tables
            for part in _parts_in(tables.kernels, module)
        ]
    if isinstance(module, ReplicatedBags | ReplicatedSequences):
        return _whole_tables(module.tables.kernels, Strategy.data_parallel)
    if isinstance(module, Local):
        return _whole_tables(module.kernels, None)
    return []


def _whole_tables(kernels: list[Bags], strategy: Strategy | None) -> list[TablePart]:
    return [
        TablePart(
            table=table_name(config.name),
            config=config,
            strategy=strategy,
            part=Part(0, 0, config.num_embeddings, 0, config.embedding_dim),
            bags=bags,
            index=index,
        )
        for bags in kernels
        for index, config in enumerate(bags.tables)
    ]


def _parts_in(
    kernels: list[Bags], module: ShardedBags | ShardedSequences
) -> list[TablePart]:
    whole = {config.name: config for config in module.configs}
    found = []
    for bags in kernels:
        for index, config in enumerate(bags.tables):
            own = module.own_parts[config.name]
            found.append(
                TablePart(
                    table=table_name(own.whole.name),
                    config=whole[own.whole.name],
                    strategy=module.strategies[own.whole.name],
                    part=own.part,
                    bags=bags,
                    index=index,
                )
            )
    return found
