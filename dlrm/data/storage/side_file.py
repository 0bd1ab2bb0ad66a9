"""The Parquet file beside a shard: where each row came from, and its kept columns."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.durable import flush_to_disk
from dlrm.data.storage.manifest import FileRecord
from dlrm.kernels.checksum import crc32_of_file

SIDE_ROWS_PER_GROUP = 65_536
_ROWS_COUNTED = 8_192
"""Of a row group, to find the texts that are frequent."""


@dataclass(slots=True)
class SideFile:
    """The side columns of one shard, written from start to end."""

    path: Path
    writer: pq.ParquetWriter
    waiting: list[pa.Table] = field(default_factory=list)
    """Rows held back until they fill a row group."""

    @classmethod
    def create(
        cls, path: Path, schema: pa.Schema, coming: pa.Schema | None = None
    ) -> SideFile:
        """Begin the file; one that lies there goes.

        ``schema`` is what readers find, and unless ``coming`` is given what ``append``
        takes: strings may come as dictionaries, whose codes are written as they are.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [field.name for field in schema if _is_text(field.type)]
        numbers = [field.name for field in schema if not _is_text(field.type)]
        whole = [field.name for field in schema if _is_whole_number(field.type)]
        writer = pq.ParquetWriter(
            path,
            coming or schema,
            compression="zstd",
            # Row numbers never come twice: a dictionary of them is work for nothing.
            use_dictionary=texts,
            column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
            # The least and greatest text of a row group is a slow search.
            write_statistics=numbers,
            # It would tell readers of what came.
            store_schema=False,
        )
        found = base64.b64encode(schema.serialize())
        writer.add_key_value_metadata({"ARROW:schema": found.decode()})
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
        size, crc32 = self.path.stat().st_size, crc32_of_file(self.path)
        return {self.path: FileRecord(size, crc32)}

    def release(self) -> None:
        """Close the file, half written as it is."""
        self.writer.close()

    def _flush(self) -> None:
        if self.waiting:
            rows = pa.concat_tables(self.waiting)
            columns = [_with_one_dictionary(column) for column in rows.columns]
            self.writer.write_table(pa.table(columns, schema=rows.schema))
            self.waiting.clear()


def _with_one_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give all codes of a column one dictionary: Parquet has one in a row group."""
    if not pa.types.is_dictionary(column.type) or not column.num_chunks:
        return column
    chunks = [_frequent_first(column.chunk(0)), *column.chunks]
    return pa.chunked_array(chunks).unify_dictionaries()


def _frequent_first(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return no rows, and those texts that occur by how often they do.

    Small codes for frequent texts are packed best.
    """
    codes = column.indices[:_ROWS_COUNTED].drop_null().to_numpy()
    uses = np.bincount(codes, minlength=len(column.dictionary))
    order = np.argsort(-uses, kind="stable")[: np.count_nonzero(uses)]
    texts = column.dictionary.take(pa.array(order))
    return pa.DictionaryArray.from_arrays(column.indices[:0], texts)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_dictionary(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )


def _is_whole_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))
