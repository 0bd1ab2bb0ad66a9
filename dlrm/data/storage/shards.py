"""Write a prepared dataset's rows: shards of records, Parquet columns beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import DatasetError
from dlrm.config.schema import FeatureSchema
from dlrm.data.storage.layout import RECORDS_FILE, RecordLayout, shard_name, side_name
from dlrm.data.storage.manifest import FileRecord, Manifest
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.storage.shard_files import BagFiles, CheckedFile
from dlrm.data.storage.side_file import SideFile
from dlrm.kernels.checksum import crc32_of_file

ROWS_PER_SHARD = 4_000_000


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
            self._open[split] = _Shard.create(place, index, self._layout, side_schema)
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
        found[name] = FileRecord(path.stat().st_size, crc32_of_file(path))
    Manifest(splits=splits, files=found).save(folder)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            flush_to_disk(path)


@dataclass(slots=True)
class _Shard:
    records: CheckedFile
    bags: BagFiles
    side: SideFile
    num_rows: int = 0

    @classmethod
    def create(
        cls, split: Path, index: int, layout: RecordLayout, side_schema: pa.Schema
    ) -> _Shard:
        folder = split / shard_name(index)
        return cls(
            CheckedFile.create(folder / RECORDS_FILE),
            BagFiles.create(folder, layout),
            SideFile.create(split / side_name(index), side_schema),
        )

    def write(self, layout: RecordLayout, rows: EncodedRows, side: pa.Table) -> None:
        self.records.write(layout.pack(rows))
        self.bags.append(rows.value_starts(), rows.bag_values, rows.bag_weights)
        self.side.append(side)
        self.num_rows += len(rows)

    def finish(self) -> dict[Path, FileRecord]:
        records = {self.records.path: self.records.finish()}
        return {**records, **self.bags.finish(), **self.side.finish()}

    def release(self) -> None:
        self.records.file.close()
        self.bags.release()
        self.side.release()


def _disk_error(folder: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"Writing the dataset in {folder} needs a disk that takes it, but it refused: "
        f"{error}. Free space or rights there, or set data.prepared to another folder."
    )
