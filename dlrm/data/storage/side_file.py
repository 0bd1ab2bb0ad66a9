"""The Parquet file beside a shard: where each row came from, and its kept columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.durable import flush_to_disk
from dlrm.data.storage.manifest import FileRecord, crc32_of

SIDE_ROWS_PER_GROUP = 65_536


@dataclass(slots=True)
class SideFile:
    """The side columns of one shard, written from start to end."""

    path: Path
    writer: pq.ParquetWriter
    waiting: list[pa.Table] = field(default_factory=list)
    """Rows held back until they fill a row group."""

    @classmethod
    def create(cls, path: Path, schema: pa.Schema) -> SideFile:
        """Begin the file; one that lies there goes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [field.name for field in schema if _is_text(field.type)]
        numbers = [field.name for field in schema if not _is_text(field.type)]
        whole = [field.name for field in schema if _is_whole_number(field.type)]
        writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            # Row numbers never come twice: a dictionary of them is work for nothing.
            use_dictionary=texts,
            column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
            # The least and greatest text of a row group is a slow search.
            write_statistics=numbers,
        )
        return cls(path, writer)

    def append(self, side: pa.Table) -> None:
        """Append rows."""
        self.waiting.append(side)
        if sum(table.num_rows for table in self.waiting) >= SIDE_ROWS_PER_GROUP:
            self._flush()

    def finish(self) -> dict[Path, FileRecord]:
        """Force the file to disk; return what was written."""
        self._flush()
        self.writer.close()
        flush_to_disk(self.path)
        return {self.path: FileRecord(self.path.stat().st_size, crc32_of(self.path))}

    def release(self) -> None:
        """Close the file, half written as it is."""
        self.writer.close()

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting))
            self.waiting.clear()


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_dictionary(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )


def _is_whole_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))
