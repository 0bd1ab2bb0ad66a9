"""Rows of an old checkpoint's tables into a new model's, found by key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dlrm.checkpoint import TablePart, table_parts
from dlrm.config.errors import RunError
from dlrm.config.schema import FeatureSchema
from dlrm.data.transforms.row_matching import (
    FittedTables,
    RowMatch,
    data_table,
    match_rows,
)
from dlrm.embeddings.state import USES, TableState
from dlrm.warm_start.record import TableMapping

_WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class OldTables:
    """The tables of an old run's checkpoint, and what their rows stand for."""

    folder: Path
    """The checkpoint's."""
    steps: dict[str, int]
    """By table, the steps that bias correction has counted."""
    fitted: FittedTables


def map_table(table: TableState, *, old: OldTables, new: FittedTables) -> TableMapping:
    """Copy a table's old rows and their optimizer state, bit for bit.

    Rows without an old row stay as they are.

    Raises:
        UserError: A vocabulary or the checkpoint is damaged.
    """
    mapping = TableMapping(table.table, table.weight.shape[0])
    if table.table not in old.steps:
        mapping.not_mapped = "the old run has no such table"
        return mapping
    base = data_table(new.schema, table.table)
    match = match_rows(base, old=old.fitted, new=new)
    first = _first_part(old, table.table)
    mapping.not_mapped = match.reason or _misfit(table.weight, first.columns[_WEIGHT])
    if mapping.not_mapped:
        return mapping
    mapping.has_state = bool(table.optimizer.keys() - {USES})
    mapping.state_not_mapped = _state_misfit(table, first)
    mapping.num_mapped = int((match.sources >= 0).sum())
    mapping.num_dropped = match.num_dropped
    _copy_rows(table, match, old, mapping, new.schema)
    if mapping.has_state and not mapping.state_not_mapped:
        # Tables of one kernel share their count of steps, a new table among them.
        table.set_step(max(table.step, old.steps[table.table]))
    return mapping


def _first_part(old: OldTables, table: str) -> TablePart:
    part = next(table_parts(old.folder, table), None)
    if part is None:
        raise _incomplete(old, table)
    return part


def _misfit(own: torch.Tensor, given: torch.Tensor) -> str:
    """Say why rows of ``given`` cannot be rows of ``own``; empty where they can."""
    if own.dtype != given.dtype:
        return f"type {_name(own.dtype)}, was {_name(given.dtype)}"
    if own.shape[1:] != given.shape[1:]:
        return f"width {own[0].numel()}, was {given[0].numel()}"
    return ""


def _state_misfit(table: TableState, part: TablePart) -> str:
    own = {name: t for name, t in table.optimizer.items() if name != USES}
    given = part.optimizer
    same = own.keys() == given.keys()
    if not own or (same and not any(_misfit(own[name], given[name]) for name in own)):
        return ""
    return f"which holds {_kinds(own)}, was {_kinds(given)}"


def _copy_rows(
    table: TableState,
    match: RowMatch,
    old: OldTables,
    mapping: TableMapping,
    schema: FeatureSchema,
) -> None:
    columns = {_WEIGHT: table.weight}
    if not mapping.state_not_mapped:
        columns |= {n: t for n, t in table.optimizer.items() if n != USES}
    options = schema.options(data_table(schema, table.table))
    uses, num_copied = table.optimizer.get(USES), 0
    for part in table_parts(old.folder, table.table):
        inside = (match.sources >= part.start) & (match.sources < part.stop)
        rows = np.flatnonzero(inside)
        num_copied += rows.size
        source = torch.from_numpy(match.sources[rows] - part.start)
        target = torch.from_numpy(rows).to(table.weight.device)
        for name, own in columns.items():
            values = part.columns[name].index_select(0, source)
            own.index_copy_(0, target, values.to(own.device))
        if uses is not None and USES in part.columns:
            counts = part.columns[USES].index_select(0, source)
            uses.index_copy_(0, target, counts.to(uses))
        elif uses is not None:
            # What an old run has trained needs no further lookups to count.
            uses.index_fill_(0, target, options.admit_after)
    if num_copied != mapping.num_mapped:
        raise _incomplete(old, table.table)
    if options.padding_idx is not None:
        # Padding may be another row than it was; it holds zeros always.
        table.weight[options.padding_idx] = 0.0


def _incomplete(old: OldTables, table: str) -> RunError:
    return RunError(
        f"Checkpoint {old.folder} must hold every row of table '{table}', but some are "
        f"missing. Name another checkpoint with init_from_checkpoint."
    )


def _kinds(state: dict[str, torch.Tensor]) -> str:
    shown = (
        f"{name} {'a value' if values.dim() > 1 else 'a row'}"
        for name, values in state.items()
    )
    return ", ".join(shown) or "nothing"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
