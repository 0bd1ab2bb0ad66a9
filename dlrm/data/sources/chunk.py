"""What every source yields: raw rows that remember where they came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from dlrm.kernels.checksum import crc32

MEND_OR_SKIP = (
    "Mend the row, or prepare with data.bad_rows=skip, which leaves such rows out and "
    "lists them in a quarantine file."
)
"""What to do about a bad row. Rows that are scored are never left out."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive raw rows of one file."""

    table: pa.Table
    """Raw columns by name. Delimited files give strings, null where a null value
    stood, or the same as a dictionary's codes, or numbers, NaN where one is missing;
    Parquet files and DataFrames keep their own types."""
    file: str
    """The file as the user named it; ``<DataFrame>`` for one in memory."""
    rows: np.ndarray
    """int64 [R]: 1-based line of a text file, the header counted, or 1-based row of
    a Parquet file or DataFrame."""
    split: str | None = None
    """``train``, ``valid`` or ``test`` where the source itself says so."""
    progress: float = 0.0
    """Share of the source's bytes or rows read when this chunk ends, 0 to 1."""
    quarantined: tuple[BadRow, ...] = ()
    """Rows left out under ``bad_rows=skip``, in file order."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read, and why."""

    file: str
    row: int
    """1-based line or row, as in ``Chunk.rows``."""
    reason: str
    text: str = ""
    """The line as it stands in the file, where it is text."""


class Source(Protocol):
    """Raw rows of one data set, in file order."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, a chunk at a time, in an order that never changes."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return JSON data that changes whenever the rows might."""
        ...


class Piece(Protocol):
    """A part of a source that any process can read; it can be pickled."""

    def chunks(self) -> Iterator[Chunk]:
        """Read it."""
        ...

    def digest(self) -> str:
        """Return text that changes with the rows."""
        ...


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """A chunk that the source has read already, as a piece."""

    chunk: Chunk

    def chunks(self) -> Iterator[Chunk]:
        """Give the chunk."""
        yield self.chunk

    def digest(self) -> str:
        """Return the chunk's place and a checksum of its values."""
        crc = crc32(self.chunk.rows.tobytes())
        for batch in self.chunk.table.to_batches():
            crc = crc32(batch.serialize(), crc)
        return f"{self.chunk.file}:{self.chunk.split}:{crc}"
