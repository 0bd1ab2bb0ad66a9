"""Holding ``typed_columns`` to the judge of cells, row by row."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from dlrm.config.data import BadRows, DataConfig
from dlrm.data.columns.typed import typed_columns
from dlrm.data.sources.chunk import BadRow, Chunk
from tests.fuzz.findings import Refused, answer, expect
from tests.fuzz.judges.cells import JudgedCells, judge_cells

Row = tuple[str, int, dict[str, Any]]
"""File, line, and raw cells by column."""


def read_typed(chunks: Sequence[Chunk], data: DataConfig) -> Any:
    """Return typed rows as (file, line, values), and the bad rows; or a refusal."""

    def read() -> tuple[list[Row], list[BadRow]]:
        rows: list[Row] = []
        bad: list[BadRow] = []
        for chunk in chunks:
            typed = typed_columns(chunk, data)
            bad += typed.bad_rows
            rows += (
                (row.pop("__file"), row.pop("__row"), row)
                for row in typed.table.to_pylist()
            )
        return rows, bad

    return answer(read)


def compare_typed(
    rows: Sequence[Row], chunks: Sequence[Chunk], data: DataConfig
) -> None:
    """Hold sound rows, bad rows and the first fault to the judge's.

    ``rows`` are what the source gave, ``data.bad_rows`` is ``skip``.
    """
    judged = [(file, line, judge_cells(cells, data)) for file, line, cells in rows]
    found = read_typed(chunks, data)
    expect(not isinstance(found, Refused), "sound columns refused", found)
    typed, bad = found
    wanted = [(file, line, c) for file, line, c in judged if c.bad_column is None]
    expect(len(typed) == len(wanted), "another number of rows", typed, wanted, bad)
    for (file, line, values), (judged_file, judged_line, cells) in zip(
        typed, wanted, strict=True
    ):
        expect((file, line) == (judged_file, judged_line), "rows moved", file, line)
        for key, value in cells.values.items():
            if key:
                same = same_value(values[key], value)
                expect(same, f"{key} differs", line, values[key], value)
    _compare_bad(judged, bad)
    _compare_first(judged, chunks, data)


def _compare_bad(
    judged: Sequence[tuple[str, int, JudgedCells]], bad: Sequence[BadRow]
) -> None:
    faults = [(f, line, c.bad_column) for f, line, c in judged if c.bad_column]
    places = [(b.file, b.row) for b in bad]
    expect(places == [fault[:2] for fault in faults], "bad rows differ", bad, faults)
    for fault, found in zip(faults, bad, strict=True):
        named = f"column {fault[2]!r} must" in found.reason
        expect(named, "another column", found, fault)


def _compare_first(
    judged: Sequence[tuple[str, int, JudgedCells]],
    chunks: Sequence[Chunk],
    data: DataConfig,
) -> None:
    before = data.bad_rows
    data.bad_rows = BadRows.error
    try:
        found = read_typed(chunks, data)
    finally:
        data.bad_rows = before
    first = next(((f, n) for f, n, c in judged if c.bad_column), None)
    if first is None:
        expect(not isinstance(found, Refused), "sound rows refused", found)
        return
    expect(isinstance(found, Refused), "a bad row went unseen", found, first)
    file, line = first
    places = (f"{file}, line {line}: ", f"{file}, row {line}: ")
    expect(found.message.startswith(places), "another place", found, first)


def same_value(found: Any, wanted: Any) -> bool:
    """Say whether two values agree; float32 columns hold the nearest such number."""
    if isinstance(wanted, list) and isinstance(found, list):
        pairs = zip(found, wanted, strict=False)
        return len(found) == len(wanted) and all(same_value(a, b) for a, b in pairs)
    if isinstance(wanted, float) and isinstance(found, float):
        if math.isnan(wanted) or math.isnan(found):
            return math.isnan(wanted) and math.isnan(found)
        return found == wanted or found == _float32(wanted)
    if isinstance(wanted, str) and isinstance(found, str) and found != wanted:
        return _same_float_text(found, wanted)
    return bool(found == wanted)


def _same_float_text(found: str, wanted: str) -> bool:
    """Say whether both are a float's own text: 1e+30 and 1e30 are the same id."""
    special = any(mark in wanted for mark in (".", "e", "inf"))
    try:
        return special and _float32(float(found)) == _float32(float(wanted))
    except ValueError:
        return False


def _float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
