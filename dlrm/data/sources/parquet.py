"""Parquet files as chunks, one record batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.errors import DataError
from dlrm.data.background import in_background
from dlrm.data.sources.chunk import Chunk
from dlrm.data.sources.headers import check_same_columns, missing_columns
from dlrm.data.sources.needed import NeededColumns

ROWS_PER_CHUNK = 65_536


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
    names = [file.schema_arrow.names for file in opened]
    _check_columns(files, names, needed or check)
    wanted = needed.present(names[0]) if needed is not None else names[0]
    total = max(1, sum(file.metadata.num_rows for file in opened))
    yield from in_background(_chunks(files, opened, wanted, splits or {}, total))


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


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
            for batch in file.iter_batches(ROWS_PER_CHUNK, columns=list(wanted)):
                rows = np.arange(first, first + batch.num_rows, dtype=np.int64)
                table = pa.Table.from_batches([batch]).select(list(wanted))
                first += batch.num_rows
                done += batch.num_rows
                yield Chunk(table, str(path), rows, splits.get(path), done / total)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
