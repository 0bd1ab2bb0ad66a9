"""Parquet files as chunks, one record batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.errors import DataError
from dlrm.data.background import in_background
from dlrm.data.columns.shown import listed
from dlrm.data.sources.chunk import Chunk
from dlrm.data.sources.headers import check_same_columns, missing_columns
from dlrm.data.sources.needed import NeededColumns
from dlrm.data.sources.parquet_footer import read_row_groups
from dlrm.data.sources.remote import is_remote

ROWS_PER_CHUNK = 65_536
# A name that is no UTF-8 fails when it is asked for.
_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)


def read_parquet(
    files: Sequence[Path],
    *,
    needed: NeededColumns | None = None,
    check: NeededColumns | None = None,
    splits: Mapping[Path, str] | None = None,
) -> Iterator[Chunk]:
    """Yield all rows of ``files`` in their own types, read ahead on a thread.

    ``needed`` are the columns to keep; all where None. ``check`` are columns that must
    exist in any case. ``splits`` tags files.

    Raises:
        DataError: A file is damaged, lacks a column or differs from the first one.
    """
    opened = [_open(path) for path in files]
    names = [_names(path, file) for path, file in zip(files, opened, strict=True)]
    _check_columns(files, names, needed or check)
    wanted = needed.present(names[0]) if needed is not None else names[0]
    for path, file in zip(files, opened, strict=True):
        _check_counts(path, file, set(wanted))
    total = max(1, sum(file.metadata.num_rows for file in opened))
    yield from in_background(_chunks(files, opened, wanted, splits or {}, total))


def _open(path: Path) -> pq.ParquetFile:
    # Row groups of a remote file are read as they come.
    file = path.open("rb") if is_remote(str(path)) else path
    try:
        return pq.ParquetFile(
            file, memory_map=file is path, page_checksum_verification=True
        )
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def _names(path: Path, file: pq.ParquetFile) -> list[str]:
    """Return the columns of a file, each of which must be there once."""
    try:
        names: list[str] = file.schema_arrow.names
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path} must have columns whose names differ, but it has "
            f"{listed(twice)} more than once. Rename one."
        )
    return names


def _check_counts(path: Path, file: pq.ParquetFile, wanted: set[str]) -> None:
    """Refuse a footer at odds with itself: no checksum covers it, and Arrow trusts it.

    Raises:
        DataError: Row groups and the file, or a flat column and its row group, do not
            agree about the number of rows.
    """
    leaves = [file.schema.column(place) for place in range(len(file.schema))]
    flat = [
        leaf.path
        for leaf in leaves
        if leaf.path in wanted and leaf.max_repetition_level == 0
    ]
    try:
        groups = read_row_groups(path)
    except ValueError as error:
        raise _damaged(path, error) from error
    sound = sum(group.num_rows for group in groups) == file.metadata.num_rows
    for group in groups:
        rows = group.num_rows
        sound = sound and all(group.num_values.get(name) == rows for name in flat)
    if not sound:
        raise _damaged(path, ValueError("its numbers of rows do not agree"))


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).rstrip(".")
    return DataError(
        f"{path} must be a whole Parquet file, but reading it fails: {reason}. Copy or "
        "write it again."
    )


def _check_columns(
    files: Sequence[Path], names: Sequence[list[str]], needed: NeededColumns | None
) -> None:
    required = needed.required if needed is not None else ()
    missing = [name for name in required if name not in names[0]]
    if missing:
        keys = needed.keys if needed is not None else None
        raise missing_columns(missing, names[0], file=str(files[0]), keys=keys)
    for path, found in zip(files, names, strict=True):
        check_same_columns(path, found, files[0], names[0])


def _chunks(
    files: Sequence[Path],
    opened: Sequence[pq.ParquetFile],
    wanted: Sequence[str],
    splits: Mapping[Path, str],
    total: int,
) -> Iterator[Chunk]:
    done = 0
    for path, file in zip(files, opened, strict=True):
        first = 1
        try:
            for batch in _batches(file, list(wanted)):
                rows = np.arange(first, first + batch.num_rows, dtype=np.int64)
                table = pa.Table.from_batches([batch]).select(list(wanted))
                _check_texts(table, path, first)
                first += batch.num_rows
                done += batch.num_rows
                yield Chunk(table, str(path), rows, splits.get(path), done / total)
        except _UNREADABLE as error:
            raise _damaged(path, error) from error


def _batches(file: pq.ParquetFile, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    schema = file.schema_arrow
    if not any(_holds_coded_lists(schema.field(name).type) for name in wanted):
        yield from file.iter_batches(ROWS_PER_CHUNK, columns=wanted)
        return
    # Arrow cannot join lists of dictionary values across row groups.
    for group in range(file.num_row_groups):
        yield from file.iter_batches(ROWS_PER_CHUNK, row_groups=[group], columns=wanted)


def _holds_coded_lists(kind: pa.DataType) -> bool:
    if not pa.types.is_nested(kind):
        return False
    items = [kind.field(i).type for i in range(kind.num_fields)]
    return any(pa.types.is_dictionary(t) or _holds_coded_lists(t) for t in items)


def _check_texts(table: pa.Table, path: Path, first_row: int) -> None:
    """Refuse bytes that are no UTF-8 in text columns: Parquet does not look at them.

    Raises:
        DataError: The row and column of the first such text.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not _holds_text(column.type):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            row = first_row + _first_unsound(column)
            raise DataError(
                f"{path}, row {row}: column {name!r} must hold UTF-8 text, but it does "
                f"not ({error}). Write the column again, as binary if it is no text."
            ) from error


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_holds_text(kind.field(i).type) for i in range(kind.num_fields))
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(is_text or pa.types.is_string_view(kind))


def _first_unsound(column: pa.ChunkedArray) -> int:
    """Find the first row that does not validate, by halves."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        # What is validated is what a slice holds on to: copy it first.
        half = column.slice(low, middle - low).combine_chunks()
        part = half.take(pa.array(range(middle - low), pa.int64()))
        try:
            part.validate(full=True)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
