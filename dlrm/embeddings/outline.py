"""A model's tables over all processes: what there is of each, and who keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from dlrm.distributed.job import Job
from dlrm.distributed.plan import Part
from dlrm.embeddings.state import USES, TablePart, table_parts


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """What one of ``TablePart.columns`` holds."""

    dtype: torch.dtype
    by_row: bool
    """One value a row, not one a row and column."""


@dataclass(frozen=True, slots=True)
class TableOutline:
    """One table as all processes together keep it; equal on all of them."""

    table: str
    num_rows: int
    dim: int
    step: int
    """Steps that bias correction has counted."""
    kinds: dict[str, ColumnKind]
    """By the names of ``TablePart.columns``."""
    parts: tuple[Part, ...]
    """Every row and column once. Of equal parts, as replicas are, that of the lowest
    rank of the job stands here, which is that of its process."""

    @property
    def edges(self) -> list[int]:
        """Where the ranges of columns start that lie apart, and the table's width."""
        return sorted({part.first_column for part in self.parts} | {self.dim})

    @property
    def row_states(self) -> list[str]:
        """Names of the optimizer state that each range of columns has one a row of."""
        return [n for n, kind in self.kinds.items() if kind.by_row and n != USES]


def table_outlines(model: nn.Module, job: Job) -> dict[str, TableOutline]:
    """Return all tables of ``model``, sorted by name; all processes call it.

    Raises:
        ConfigError: Two collections hold tables of one name.
    """
    own = job.together(lambda: [_entry(part) for part in table_parts(model)])
    found: dict[str, list[TableOutline]] = {}
    for rank, entries in enumerate(job.all_gather(own)):
        for entry in entries:
            placed = dataclasses.replace(entry.parts[0], rank=rank)
            at_rank = dataclasses.replace(entry, parts=(placed,))
            found.setdefault(entry.table, []).append(at_rank)
    return {name: _join(found[name]) for name in sorted(found)}


def _entry(part: TablePart) -> TableOutline:
    """Return what the other processes must know of a part."""
    return TableOutline(
        table=part.table,
        num_rows=part.config.num_embeddings,
        dim=part.config.embedding_dim,
        step=part.step,
        kinds={
            name: ColumnKind(values.dtype, values.dim() == 1)
            for name, values in sorted(part.columns.items())
        },
        parts=(part.part,),
    )


def _join(entries: Sequence[TableOutline]) -> TableOutline:
    kept: dict[tuple[int, int], Part] = {}
    for entry in entries:
        part = entry.parts[0]
        kept.setdefault((part.first_column, part.first_row), part)
    return dataclasses.replace(
        entries[0],
        step=max(entry.step for entry in entries),
        parts=tuple(kept[place] for place in sorted(kept)),
    )
