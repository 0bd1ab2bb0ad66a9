"""What a checkpoint is written from: live, or copied so that training may go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dlrm.checkpoints.dense import Weights, dense_tensors
from dlrm.checkpoints.exchange import Live
from dlrm.checkpoints.files import TRAINING
from dlrm.distributed.job import Job
from dlrm.embeddings.outline import TableOutline, table_outlines
from dlrm.embeddings.state import table_parts


@dataclass(frozen=True, slots=True)
class Contents:
    """This process's tensors of a checkpoint."""

    outlines: Mapping[str, TableOutline]
    """Of all processes' tables, by name."""
    tables: Live
    dense: Mapping[str, torch.Tensor]
    scalars: dict[str, dict[str, Any]]
    """The dense optimizer's values that are no tensors, by parameter."""
    has_training: bool
    """Whether each weight stands beside the one that training goes on with."""

    @property
    def num_bytes(self) -> int:
        """The size of all tensors: of a copy, and about that of the files."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._all())

    def copied(self) -> Contents:
        """Return the same values in memory of their own, on the host.

        What further steps do to the model does not reach them.
        """
        return replace(
            self,
            tables={key: _copies(columns) for key, columns in self.tables.items()},
            dense=_copies(self.dense),
        )

    def _all(self) -> Iterable[torch.Tensor]:
        yield from self.dense.values()
        for columns in self.tables.values():
            yield from columns.values()


def contents_of(
    model: nn.Module,
    dense_optimizer: torch.optim.Optimizer,
    training: Weights | None,
    job: Job,
) -> Contents:
    """Return live views of all that a checkpoint holds; all processes call this."""
    tensors, scalars = dense_tensors(model, dense_optimizer)
    given = training or {}
    tensors |= {f"{TRAINING}/{n}": t for n, t in given.items() if n in tensors}
    return Contents(
        outlines=table_outlines(model, job),
        tables=_live(model, training),
        dense=tensors,
        scalars=scalars,
        has_training=training is not None,
    )


def _live(model: nn.Module, training: Weights | None) -> Live:
    found = {}
    for part in table_parts(model):
        columns = part.columns
        if training is not None:
            columns[TRAINING] = training[part.key]
        place = part.part
        found[part.table, place.first_row, place.first_column] = columns
    return found


def _copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        # ``cpu`` alone would give a tensor of the host itself, and no copy.
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in tensors.items()
    }
