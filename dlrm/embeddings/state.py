"""Tables and their optimizer state as a checkpoint sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.embeddings.bags import Bags
from dlrm.embeddings.local import local_collections
from dlrm.embeddings.names import table_name

USES = "uses"
"""A row's lookups in training so far, int32 [rows]; evaluation reads them too."""


@dataclass(frozen=True, slots=True)
class TableState:
    """Live views of one table: writing into them changes the model."""

    table: str
    weight: torch.Tensor
    """[rows, dim]."""
    optimizer: dict[str, torch.Tensor]
    """By canonical name: ``sum``, ``exp_avg``, ``exp_avg_sq``, ``momentum``; each
    [rows, dim], or [rows] where the optimizer keeps one value a row. Beside them
    ``USES`` where lookups admit rows."""
    _bags: Bags

    @property
    def step(self) -> int:
        """Steps that bias correction has counted; tables of one kernel share it.

        Optimizers without bias correction do not read it.
        """
        return self._bags.step

    def set_step(self, step: int) -> None:
        """Go on as if ``step`` steps had been taken."""
        self._bags.step = step


def table_states(model: nn.Module) -> dict[str, TableState]:
    """Return the state of every self-training table in ``model``, by table name.

    Raises:
        ConfigError: Two collections hold tables of one name.
    """
    states: dict[str, TableState] = {}
    for local in local_collections(model):
        for bags in local.kernels:
            for i, table in enumerate(bags.tables):
                name = table_name(table.name)
                if name in states:
                    raise ConfigError(
                        f"Table names must be unique in a model, but two collections "
                        f"have a table '{name}'. Rename one of them."
                    )
                states[name] = TableState(
                    name,
                    bags.weight(i),
                    bags.optimizer_state(i) | bags.counters(i),
                    bags,
                )
    return states
