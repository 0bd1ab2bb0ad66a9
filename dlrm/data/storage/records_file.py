"""The records of one shard, written in place: any rows, in any order, by any process.

Shape suffixes: R = rows, W = words of a record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlrm.config.durable import flush_to_disk, writing_to
from dlrm.data.storage.checksums import joined_crc32
from dlrm.data.storage.layout import INT, RECORDS_FILE
from dlrm.data.storage.manifest import FileRecord
from dlrm.kernels.checksum import crc32, crc32_of_part

_ROWS_AT_ONCE = 1 << 11
"""Few enough to stay in the processor's cache from their columns to the file."""


@dataclass(frozen=True, slots=True)
class RecordsFile:
    """A shard's file of records, of a size that is known before its first row."""

    shard: Path
    """Its folder, which errors name."""
    num_words: int

    @property
    def path(self) -> Path:
        """The file."""
        return self.shard / RECORDS_FILE

    def make(self, num_rows: int) -> None:
        """Give the file its full size; rows that lie there stay.

        Raises:
            WriteError: The disk refuses it.
        """
        with writing_to(self.shard):
            self.shard.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(num_rows * self._row_bytes)

    def write(self, first_row: int, columns: np.ndarray, rows: np.ndarray) -> int:
        """Write some rows of int32 [W, R], from row ``first_row`` on; return their CRC.

        Raises:
            WriteError: The disk refuses the bytes.
        """
        crc = 0
        records = np.empty((_ROWS_AT_ONCE, self.num_words), dtype=INT)
        with writing_to(self.shard), self.path.open("r+b") as file:
            file.seek(first_row * self._row_bytes)
            for start in range(0, rows.size, _ROWS_AT_ONCE):
                own = rows[start : start + _ROWS_AT_ONCE]
                records[: own.size] = columns.take(own, axis=1).T
                data = records[: own.size].reshape(-1).view(np.uint8).data
                crc = crc32(data, crc)
                file.write(data)
        return crc

    def holds(self, first_row: int, num_rows: int, crc32: int) -> bool:
        """Say whether rows lie there as they were written."""
        start, size = first_row * self._row_bytes, num_rows * self._row_bytes
        try:
            return crc32_of_part(self.path, start, size) == crc32
        except OSError:
            return False

    def finish(self, pieces: Iterable[tuple[int, int]]) -> FileRecord:
        """Force all rows to disk; ``pieces`` are the CRCs and rows, in file order.

        Raises:
            WriteError: The disk refuses the bytes.
        """
        flush_to_disk(self.path)
        sizes = [(crc, num_rows * self._row_bytes) for crc, num_rows in pieces]
        return FileRecord(sum(size for _, size in sizes), joined_crc32(sizes))

    @property
    def _row_bytes(self) -> int:
        return self.num_words * INT.itemsize
