"""Rows of an old checkpoint's tables into a new model's, found by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlrm.checkpoints.files import (
    ROW_STATES,
    TRAINING,
    WEIGHT,
    RowsFile,
    rows_files,
)
from dlrm.checkpoints.row_state import conversion, convert_row_state
from dlrm.config.errors import RunError
from dlrm.config.schema import FeatureSchema
from dlrm.data.transforms.row_matching import (
    FittedTables,
    RowMatch,
    data_table,
    match_rows,
)
from dlrm.embeddings.outline import ColumnKind, TableOutline
from dlrm.embeddings.state import USES, TablePart
from dlrm.warm_start.record import TableMapping

_NO_ROWS = slice(0, 0)


@dataclass(frozen=True, slots=True)
class OldTables:
    """The tables of an old run's checkpoint, and what their rows stand for."""

    folder: Path
    """The checkpoint's."""
    entries: Mapping[str, Mapping[str, Any]]
    """By table, what the checkpoint's state says of it."""
    fitted: FittedTables

    def step(self, table: str) -> int:
        """Return the steps that bias correction has counted."""
        return int(self.entries[table]["step"])

    def edges(self, table: str) -> dict[str, list[int]]:
        """Return the ranges of columns that have their own row-wise state, by name."""
        return dict(self.entries[table].get(ROW_STATES, {}))


def map_table(
    outline: TableOutline,
    parts: Sequence[TablePart],
    *,
    old: OldTables,
    new: FittedTables,
) -> TableMapping:
    """Copy a table's old rows and their optimizer state, bit for bit.

    Rows without an old row stay as they are. State of one value a row that lies on
    other ranges of columns than it did becomes the mean over its columns.

    Args:
        outline: The table.
        parts: This process's parts of it, perhaps none; they alone are filled.
        old: Where the rows come from.
        new: What the rows of the table stand for.

    Raises:
        UserError: A vocabulary or the checkpoint is damaged.
    """
    name = outline.table
    mapping = TableMapping(name, outline.num_rows)
    if name not in old.entries:
        mapping.not_mapped = "the old run has no such table"
        return mapping
    match = match_rows(data_table(new.schema, name), old=old.fitted, new=new)
    files = rows_files(old.folder, name)
    if not files:
        raise _incomplete(old, name)
    given, width = _kinds_of(files[0], old.edges(name))
    own = dict(outline.kinds)
    mapping.not_mapped = match.reason or _misfit(own[WEIGHT], given[WEIGHT])
    if not mapping.not_mapped and width != outline.dim:
        mapping.not_mapped = f"width {outline.dim}, was {width}"
    if mapping.not_mapped:
        return mapping
    state = {n: kind for n, kind in own.items() if n not in (WEIGHT, USES)}
    was = {n: kind for n, kind in given.items() if n not in (WEIGHT, USES, TRAINING)}
    mapping.has_state = bool(state)
    mapping.state_not_mapped = _state_misfit(state, was)
    if not mapping.state_not_mapped:
        mapping.state_converted = _conversion(outline, old)
    mapping.num_mapped = int((match.sources >= 0).sum())
    mapping.num_dropped = match.num_dropped
    taken = [WEIGHT] if mapping.state_not_mapped else [WEIGHT, *state]
    _check_complete(match, files, mapping, old)
    for part in parts:
        _copy_rows(part, taken, match, files, old, new.schema)
        if mapping.has_state and not mapping.state_not_mapped:
            # Tables of one kernel share their count of steps, a new one among them.
            part.set_step(max(part.step, old.step(name)))
    return mapping


def _kinds_of(
    file: RowsFile, edges: Mapping[str, object]
) -> tuple[dict[str, ColumnKind], int]:
    """Return what a file holds, by name, and the table's width."""
    kinds = {}
    with file.opened() as opened:
        for name in opened.keys():  # noqa: SIM118
            values = opened.get_slice(name)
            by_row = len(values.get_shape()) == 1 or name in edges
            kinds[name] = ColumnKind(values[_NO_ROWS].dtype, by_row)
        return kinds, int(opened.get_slice(WEIGHT).get_shape()[1])


def _state_misfit(own: dict[str, ColumnKind], was: dict[str, ColumnKind]) -> str:
    """Say why one state cannot be the other; empty where it can."""
    if not own or own == was:
        return ""
    return f"which holds {_shown(own)}, was {_shown(was)}"


def _conversion(outline: TableOutline, old: OldTables) -> str:
    kept = old.edges(outline.table)
    for name in outline.row_states:
        edges = kept.get(name, [0, outline.dim])
        if edges != outline.edges:
            return f"{name} {conversion(edges, outline.edges)}"
    return ""


def _check_complete(
    match: RowMatch, files: Sequence[RowsFile], mapping: TableMapping, old: OldTables
) -> None:
    found = sum(int(_inside(match.sources, file).sum()) for file in files)
    if found != mapping.num_mapped:
        raise _incomplete(old, mapping.table)


def _inside(sources: np.ndarray, file: RowsFile) -> np.ndarray:
    inside: np.ndarray = (sources >= file.start) & (sources < file.stop)
    return inside


def _copy_rows(
    table: TablePart,
    taken: Sequence[str],
    match: RowMatch,
    files: Sequence[RowsFile],
    old: OldTables,
    schema: FeatureSchema,
) -> None:
    """Fill a part with its rows and columns of what it takes over."""
    options = schema.options(data_table(schema, table.table))
    live, edges, columns = table.columns, old.edges(table.table), table.part.columns
    sources = match.sources[table.part.rows]
    for file in files:
        rows = np.flatnonzero(_inside(sources, file))
        if rows.size == 0:
            continue
        source = torch.from_numpy(sources[rows] - file.start)
        target = torch.from_numpy(rows).to(table.weight.device)
        with file.opened() as opened:
            for name in taken:
                held, own = opened.get_slice(name), live[name]
                values = held[:] if own.dim() == 1 else held[:, columns]
                values = values.index_select(0, source)
                if name in edges:
                    values = convert_row_state(values, edges[name], columns)
                own.index_copy_(0, target, values.to(own.device))
            _take_uses(live.get(USES), opened, source, target, options.admit_after)
    # Padding may be another row than it was; it holds zeros always.
    table.clear_padding()


def _take_uses(
    uses: torch.Tensor | None,
    opened: Any,
    source: torch.Tensor,
    target: torch.Tensor,
    admit_after: int,
) -> None:
    if uses is None:
        return
    if USES in opened.keys():  # noqa: SIM118
        counts = opened.get_slice(USES)[:].index_select(0, source)
        uses.index_copy_(0, target, counts.to(uses))
    else:
        # What an old run has trained needs no further lookups to count.
        uses.index_fill_(0, target, admit_after)


def _incomplete(old: OldTables, table: str) -> RunError:
    return RunError(
        f"Checkpoint {old.folder} must hold every row of table '{table}', but some are "
        f"missing. Name another checkpoint with init_from_checkpoint."
    )


def _misfit(own: ColumnKind, given: ColumnKind) -> str:
    if own.dtype == given.dtype:
        return ""
    return f"type {_name(own.dtype)}, was {_name(given.dtype)}"


def _shown(state: dict[str, ColumnKind]) -> str:
    shown = (
        f"{name} {'a row' if kind.by_row else 'a value'}"
        for name, kind in state.items()
    )
    return ", ".join(shown) or "nothing"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
