"""``quarantine.parquet``: the rows that ``bad_rows=skip`` left out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.durable import writing_to
from dlrm.data.sources.chunk import BadRow

QUARANTINE_FILE = "quarantine.parquet"
_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("text", pa.string()),
    ]
)


class Quarantine:
    """Writes bad rows as they come; the file exists once there is one."""

    def __init__(self, folder: Path) -> None:
        """Write into ``folder``, which exists."""
        self.num_rows = 0
        self.first: BadRow | None = None
        self._path = folder / QUARANTINE_FILE
        self._writer: pq.ParquetWriter | None = None

    def add(self, bad_rows: Sequence[BadRow]) -> None:
        """Append rows."""
        if not bad_rows:
            return
        if self.first is None:
            self.first = bad_rows[0]
        columns = [
            [bad.file for bad in bad_rows],
            [bad.row for bad in bad_rows],
            [bad.reason for bad in bad_rows],
            [bad.text for bad in bad_rows],
        ]
        with writing_to(self._path):
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, _SCHEMA, compression="zstd")
            self._writer.write_table(pa.table(columns, schema=_SCHEMA))
        self.num_rows += len(bad_rows)

    def __enter__(self) -> Quarantine:
        """Return the quarantine."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._writer is not None:
            with writing_to(self._path):
                self._writer.close()
