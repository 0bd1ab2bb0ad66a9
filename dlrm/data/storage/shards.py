"""Write a prepared dataset's rows: shards of records, Parquet columns beside them."""

from __future__ import annotations

import os
import shutil
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
            write_manifest(self._folder, self._splits, self._files)
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
            place, index = self._folder / split, len(counts)
            self._open[split] = _Shard(
                ShardFiles.create(place / shard_name(index), self._layout),
                SideFile.create(place / side_name(index), side_schema),
            )
            counts.append(0)
        return self._open[split]

    def _finish(self, split: str) -> None:
        shard = self._open.pop(split)
        self._splits[split][-1] = shard.num_rows
        for path, record in shard.finish().items():
            self._files[path.relative_to(self._folder).as_posix()] = record


def write_manifest(
    folder: Path, splits: dict[str, list[int]], files: dict[str, FileRecord]
) -> None:
    """Force a dataset to disk and write its ``files.json``.

    ``splits`` are the rows of each shard, ``files`` those files whose checksums are
    known; all others in the folder are read for theirs.

    Raises:
        OSError: The disk refuses the bytes.
    """
    found = dict(files)
    written = {folder / name for name in files}
    others = [p for p in folder.rglob("*") if p.is_file() and p not in written]
    for path in others:
        flush_to_disk(path)
        name = path.relative_to(folder).as_posix()
        found[name] = FileRecord(path.stat().st_size, crc32_of(path))
    Manifest(splits=splits, files=found).save(folder)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            flush_to_disk(path)


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
class ShardFiles:
    """The records of one shard, and the ids of its bags, written from start to end."""

    files: dict[str, _CheckedFile]
    num_rows: int = 0
    num_values: int = 0

    @classmethod
    def create(cls, folder: Path, layout: RecordLayout) -> ShardFiles:
        """Begin the shard ``folder``; what lies there goes."""
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        files = {
            name: _CheckedFile(folder / name, (folder / name).open("xb"))
            for name in layout.files
        }
        if STARTS_FILE in files:
            files[STARTS_FILE].write(np.zeros(1, dtype=START))
        return cls(files)

    def append(
        self,
        records: np.ndarray,
        ends: np.ndarray | None = None,
        values: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """Append rows: packed, int64 [R + 1] as ``value_starts``, and the bags."""
        self.files[RECORDS_FILE].write(records)
        self.num_rows += len(records)
        if values is not None and ends is not None:
            self.files[VALUES_FILE].write(values)
            shifted = self.num_values + ends[1:] - ends[0]
            self.files[STARTS_FILE].write(shifted.astype(START))
            self.num_values += values.size
        if weights is not None:
            self.files[WEIGHTS_FILE].write(weights)

    def finish(self) -> dict[Path, FileRecord]:
        """Force the files to disk; return what was written."""
        return {checked.path: checked.finish() for checked in self.files.values()}

    def release(self) -> None:
        """Close the files, half written as they are."""
        for checked in self.files.values():
            checked.file.close()


@dataclass(slots=True)
class SideFile:
    """The side columns of one shard."""

    path: Path
    writer: pq.ParquetWriter
    waiting: list[pa.Table] = field(default_factory=list)
    """Rows held back until they fill a row group."""

    @classmethod
    def create(cls, path: Path, schema: pa.Schema) -> SideFile:
        """Begin the file; one that lies there goes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, pq.ParquetWriter(path, schema, compression="zstd"))

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


@dataclass(slots=True)
class _Shard:
    files: ShardFiles
    side: SideFile

    @property
    def num_rows(self) -> int:
        return self.files.num_rows

    def write(self, layout: RecordLayout, rows: EncodedRows, side: pa.Table) -> None:
        has_bags = VALUES_FILE in self.files.files
        self.files.append(
            layout.pack(rows),
            rows.value_starts() if has_bags else None,
            rows.bag_values if has_bags else None,
            rows.bag_weights,
        )
        self.side.append(side)

    def finish(self) -> dict[Path, FileRecord]:
        return {**self.files.finish(), **self.side.finish()}

    def release(self) -> None:
        self.files.release()
        self.side.release()


def _disk_error(folder: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"Writing the dataset in {folder} needs a disk that takes it, but it refused: "
        f"{error}. Free space or rights there, or set data.prepared to another folder."
    )
