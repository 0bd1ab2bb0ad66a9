"""Finish shards: a task for a shard's records, one for its bags, one for its side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.data import SPLITS, DataConfig
from dlrm.config.durable import writing_to
from dlrm.data.preparation.blocks import BlockStore, BlockWriter
from dlrm.data.preparation.encoding import EncodedPart
from dlrm.data.preparation.kept_columns import (
    ORIGIN_COLUMNS,
    decoded_schema,
    side_table,
)
from dlrm.data.preparation.shard_plan import Part, ShardPlan
from dlrm.data.preparation.spill import SpilledBlock
from dlrm.data.storage.layout import RecordLayout
from dlrm.data.storage.manifest import FileRecord
from dlrm.data.storage.records_file import RecordsFile
from dlrm.data.storage.shard_files import BagFiles
from dlrm.data.storage.side_file import SideFile
from dlrm.kernels.checksum import crc32_of_file


@dataclass(frozen=True, kw_only=True, slots=True)
class AssembleTask:
    """Finish files of one shard, in their place."""

    store: BlockStore
    name: str
    made: Path
    """The dataset that is being made."""
    plan: ShardPlan

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say whether the files are still as they were written."""
        for name, (size, crc32) in result["files"].items():
            path = self.made / name
            if not path.is_file() or path.stat().st_size != size:
                return False
            if crc32_of_file(path) != crc32:
                return False
        return True

    def described(self, records: Mapping[Path, FileRecord]) -> dict[str, Any]:
        """Return the files as JSON data."""
        return {
            "files": {
                path.relative_to(self.made).as_posix(): [record.size, record.crc32]
                for path, record in records.items()
            }
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordsTask(AssembleTask):
    """Force a shard's records to disk, which lie in their place."""

    num_words: int
    crc32s: tuple[int, ...]
    """Of the plan's parts."""

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Wait for the disk."""
        del out
        file = RecordsFile(self.plan.shard(self.made), self.num_words)
        sizes = (part.num_rows for part in self.plan.parts)
        found = file.finish(zip(self.crc32s, sizes, strict=True))
        return self.described({file.path: found})

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say that it does not: rows may have been written since."""
        del result
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class BagsTask(AssembleTask):
    """Write a shard's bags."""

    layout: RecordLayout
    encoded: tuple[str, ...]
    """Names of the encoded blocks of the plan's parts."""

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Copy them from the encoded blocks."""
        del out
        shard = self.plan.shard(self.made)
        with writing_to(shard):
            bags = BagFiles.create(shard, self.layout)
            try:
                for name, part in zip(self.encoded, self.plan.parts, strict=True):
                    self._copy(name, part, bags)
                return self.described(bags.finish())
            finally:
                bags.release()

    def _copy(self, name: str, part: Part, bags: BagFiles) -> None:
        split, file = self.plan.split, self.store.open(name)
        encoded = EncodedPart(file, split, part.start, part.stop)
        ends = encoded.value_ends()
        weights = encoded.values("weights", ends) if self.layout.weighted else None
        bags.append(ends, encoded.values("values", ends), weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class SideTask(AssembleTask):
    """Write the Parquet file beside a shard."""

    blocks: tuple[SpilledBlock, ...]
    """Of the plan's parts."""
    codes: Path
    data: DataConfig
    kept: tuple[str, ...]
    raw_types: Mapping[str, pa.DataType]

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Pick the side columns of the rows that were set aside."""
        del out
        path = self.plan.side(self.made)
        with writing_to(path):
            tables = self._tables()
            first = next(tables)
            file = SideFile.create(path, decoded_schema(first.schema), first.schema)
            try:
                file.append(first)
                for table in tables:
                    file.append(table)
                return self.described(file.finish())
            finally:
                file.release()

    def _tables(self) -> Iterator[pa.Table]:
        code = SPLITS.index(self.plan.split)
        wanted = self._typed_columns()
        for block, part in zip(self.blocks, self.plan.parts, strict=True):
            own = np.flatnonzero(block.codes(self.codes) == code)
            rows = pa.array(own[part.start : part.stop])
            found = (name for name in block.names() if name in wanted)
            typed = pa.table({name: _taken(block.column(name), rows) for name in found})
            yield side_table(typed, self.data, self.kept, self.raw_types, coded=True)

    def _typed_columns(self) -> set[str]:
        """Name the typed columns that the side columns may be made of."""
        features = self.data.sparse_features.items()
        return {
            *ORIGIN_COLUMNS,
            *(f"raw:{column}" for column in self.kept),
            *(f"sparse:{n}" for n, f in features if (f.column or n) in self.kept),
        }


def _taken(column: pa.Array, rows: pa.Array) -> pa.Array:
    """Take rows that are known to be there."""
    return pc.take(column, rows, boundscheck=False)
