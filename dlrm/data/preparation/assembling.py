"""Put encoded blocks into shards: a task for a shard's records, one for its side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm.config.data import SPLITS
from dlrm.config.durable import writing_to
from dlrm.data.preparation.blocks import BlockStore, BlockWriter
from dlrm.data.preparation.encoding import EncodedPart
from dlrm.data.storage.layout import RecordLayout, shard_name, side_name
from dlrm.data.storage.manifest import FileRecord, crc32_of
from dlrm.data.storage.shards import ROWS_PER_SHARD, ShardFiles, SideFile


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """Which rows of which blocks make one shard."""

    split: str
    index: int
    parts: tuple[tuple[str, int, int], ...]
    """Name of the encoded block, first of its rows of this split, and end."""

    @property
    def num_rows(self) -> int:
        """Rows of the shard."""
        return sum(stop - start for _, start, stop in self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class AssembleTask:
    """Write files of one shard, in their place."""

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
            if crc32_of(path) != crc32:
                return False
        return True

    def parts(self) -> Iterator[EncodedPart]:
        """Yield the shard's rows in order."""
        for name, start, stop in self.plan.parts:
            file = self.store.open(name)
            yield EncodedPart(file, self.plan.split, start, stop)

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
    """Write a shard's records and bags."""

    layout: RecordLayout

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Copy them from the encoded blocks."""
        del out
        folder = self.made / self.plan.split / shard_name(self.plan.index)
        with writing_to(folder):
            shard = ShardFiles.create(folder, self.layout)
            try:
                for part in self.parts():
                    self._copy(part, shard)
                return self.described(shard.finish())
            finally:
                shard.release()

    def _copy(self, part: EncodedPart, shard: ShardFiles) -> None:
        records = part.records(self.layout)
        if not self.layout.num_multi_hot:
            shard.append(records)
            return
        ends = part.value_ends()
        weights = part.values("weights", ends) if self.layout.weighted else None
        shard.append(records, ends, part.values("values", ends), weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class SideTask(AssembleTask):
    """Write the Parquet file beside a shard."""

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Copy the side columns from the encoded blocks."""
        del out
        path = self.made / self.plan.split / side_name(self.plan.index)
        with writing_to(path):
            tables = (part.side() for part in self.parts())
            first = next(tables)
            file = SideFile.create(path, first.schema)
            try:
                file.append(first)
                for table in tables:
                    file.append(table)
                return self.described(file.finish())
            finally:
                file.release()


def plan_shards(
    names: Sequence[str],
    sizes: Sequence[Mapping[str, int]],
    *,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> list[ShardPlan]:
    """Cut each split's rows, block after block, into shards.

    ``sizes`` are the rows of each split that the encoded blocks ``names`` hold.
    """
    plans = []
    for split in SPLITS:
        parts: list[tuple[str, int, int]] = []
        room, index = rows_per_shard, 0
        for name, by_split in zip(names, sizes, strict=True):
            start = 0
            while start < by_split[split]:
                stop = min(by_split[split], start + room)
                parts.append((name, start, stop))
                room -= stop - start
                start = stop
                if room == 0:
                    plans.append(ShardPlan(split, index, tuple(parts)))
                    parts, room, index = [], rows_per_shard, index + 1
        if parts:
            plans.append(ShardPlan(split, index, tuple(parts)))
    return plans
