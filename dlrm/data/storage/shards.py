"""Write a prepared dataset's rows: shards of records, Parquet columns beside them."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import DatasetError
from dlrm.config.schema import FeatureSchema
from dlrm.data.storage.layout import (
    RECORDS_FILE,
    START,
    STARTS_FILE,
    VALUES_FILE,
    WEIGHTS_FILE,
    RecordLayout,
    shard_name,
    side_name,
)
from dlrm.data.storage.manifest import FileRecord, Manifest, crc32_of
from dlrm.data.storage.rows import EncodedRows

ROWS_PER_SHARD = 4_000_000
SIDE_ROWS_PER_GROUP = 65_536


class ShardWriter:
    """Stream encoded rows into the shards of each split.

    ``close`` writes ``files.json`` over every file then in the folder, so schema and
    vocabularies are saved before it. Used as a context manager it closes on success;
    after an error it leaves the half-written folder, without ``files.json``, to its
    owner.
    """

    def __init__(
        self,
        folder: Path,
        schema: FeatureSchema,
        *,
        rows_per_shard: int = ROWS_PER_SHARD,
    ) -> None:
        """Write below ``folder``, which exists."""
        self._folder = folder
        self._layout = RecordLayout.of(schema)
        self._rows_per_shard = rows_per_shard
        self._open: dict[str, _Shard] = {}
        self._splits: dict[str, list[int]] = {}
        self._files: dict[str, FileRecord] = {}

    def write(self, split: str, rows: EncodedRows, side: pa.Table) -> None:
        """Append rows to a split; no rows at all still make the split exist.

        ``side`` is row-aligned: ``__file``, ``__row`` and the kept raw columns, of the
        same types in every call.

        Raises:
            DatasetError: The disk refuses the bytes.
            ValueError: ``rows`` or ``side`` does not fit the schema or each other.
        """
        if side.num_rows != len(rows):
            raise ValueError(
                f"side must have {len(rows)} rows, but it has {side.num_rows}."
            )
        try:
            if len(rows) == 0 and split in self._splits:
                return
            for start, piece in self._cut(split, rows):
                shard = self._shard(split, side.schema)
                shard.write(self._layout, piece, side.slice(start, len(piece)))
        except OSError as error:
            raise _disk_error(self._folder, error) from error

    def close(self) -> None:
        """Force everything to disk and write ``files.json``.

        Raises:
            DatasetError: The disk refuses the bytes.
        """
        try:
            for split in list(self._open):
                self._finish(split)
            for path in self._other_files():
                flush_to_disk(path)
                name = path.relative_to(self._folder).as_posix()
                self._files[name] = FileRecord(path.stat().st_size, crc32_of(path))
            Manifest(splits=self._splits, files=self._files).save(self._folder)
            for path in (self._folder, *self._folder.rglob("*")):
                if path.is_dir():
                    flush_to_disk(path)
        except OSError as error:
            raise _disk_error(self._folder, error) from error

    def __enter__(self) -> ShardWriter:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close after success; after an error only release the open files."""
        if kind is None:
            self.close()
            return
        for shard in self._open.values():
            shard.release()
        self._open.clear()

    def _cut(self, split: str, rows: EncodedRows) -> list[tuple[int, EncodedRows]]:
        size = self._rows_per_shard
        filled = self._open[split].num_rows % size if split in self._open else 0
        bounds = [0, *range(size - filled, len(rows), size), len(rows)]
        return list(zip(bounds[:-1], rows.pieces(bounds), strict=True))

    def _shard(self, split: str, side_schema: pa.Schema) -> _Shard:
        counts = self._splits.setdefault(split, [])
        if split in self._open and self._open[split].num_rows == self._rows_per_shard:
            self._finish(split)
        if split not in self._open:
            (self._folder / split / "side").mkdir(parents=True, exist_ok=True)
            self._open[split] = _Shard.create(
                self._folder / split, len(counts), self._layout, side_schema
            )
            counts.append(0)
        return self._open[split]

    def _finish(self, split: str) -> None:
        shard = self._open.pop(split)
        self._splits[split][-1] = shard.num_rows
        for path, record in shard.finish().items():
            self._files[path.relative_to(self._folder).as_posix()] = record

    def _other_files(self) -> list[Path]:
        written = {self._folder / name for name in self._files}
        return [p for p in self._folder.rglob("*") if p.is_file() and p not in written]


@dataclass(slots=True)
class _CheckedFile:
    """A file written once from start to end, its CRC-32 kept as it grows."""

    path: Path
    file: BinaryIO
    size: int = 0
    crc32: int = 0

    def write(self, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
        self.file.write(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.size += len(data)

    def finish(self) -> FileRecord:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return FileRecord(self.size, self.crc32)


@dataclass(slots=True)
class _Shard:
    files: dict[str, _CheckedFile]
    side: pq.ParquetWriter
    side_path: Path
    num_rows: int = 0
    num_values: int = 0
    waiting: list[pa.Table] = field(default_factory=list)
    """Side rows held back until they fill a row group."""

    @classmethod
    def create(
        cls,
        split_folder: Path,
        index: int,
        layout: RecordLayout,
        side_schema: pa.Schema,
    ) -> _Shard:
        folder = split_folder / shard_name(index)
        folder.mkdir()
        files = {
            name: _CheckedFile(folder / name, (folder / name).open("xb"))
            for name in layout.files
        }
        if STARTS_FILE in files:
            files[STARTS_FILE].write(np.zeros(1, dtype=START))
        side_path = split_folder / side_name(index)
        side = pq.ParquetWriter(side_path, side_schema, compression="zstd")
        return cls(files=files, side=side, side_path=side_path)

    def write(self, layout: RecordLayout, rows: EncodedRows, side: pa.Table) -> None:
        self.files[RECORDS_FILE].write(layout.pack(rows))
        if VALUES_FILE in self.files:
            self.files[VALUES_FILE].write(rows.bag_values)
            ends = self.num_values + rows.value_starts()[1:]
            self.files[STARTS_FILE].write(ends.astype(START))
        if rows.bag_weights is not None:
            self.files[WEIGHTS_FILE].write(rows.bag_weights)
        self.num_rows += len(rows)
        self.num_values += rows.bag_values.size
        self.waiting.append(side)
        if sum(table.num_rows for table in self.waiting) >= SIDE_ROWS_PER_GROUP:
            self._flush_side()

    def finish(self) -> dict[Path, FileRecord]:
        self._flush_side()
        self.side.close()
        flush_to_disk(self.side_path)
        records = {checked.path: checked.finish() for checked in self.files.values()}
        side_size = self.side_path.stat().st_size
        records[self.side_path] = FileRecord(side_size, crc32_of(self.side_path))
        return records

    def release(self) -> None:
        for checked in self.files.values():
            checked.file.close()
        self.side.close()

    def _flush_side(self) -> None:
        if self.waiting:
            self.side.write_table(pa.concat_tables(self.waiting))
            self.waiting.clear()


def _disk_error(folder: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"Writing the dataset in {folder} needs a disk that takes it, but it refused: "
        f"{error}. Free space or rights there, or set data.prepared to another folder."
    )
