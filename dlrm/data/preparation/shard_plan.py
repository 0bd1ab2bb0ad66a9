"""Which rows of which blocks lie where in which shard: known once rows are dealt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlrm.config.data import SPLITS
from dlrm.data.storage.layout import shard_name, side_name
from dlrm.data.storage.records_file import RecordsFile
from dlrm.data.storage.shards import ROWS_PER_SHARD


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows that a block has of a split."""

    block: int
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Rows of the part."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The parts that make one shard, in order."""

    split: str
    index: int
    parts: tuple[Part, ...]

    @property
    def num_rows(self) -> int:
        """Rows of the shard."""
        return sum(part.num_rows for part in self.parts)

    def shard(self, made: Path) -> Path:
        """Return the shard's folder in the dataset ``made``."""
        return made / self.split / shard_name(self.index)

    def side(self, made: Path) -> Path:
        """Return the Parquet file beside it."""
        return made / self.split / side_name(self.index)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records of a part of a block lie."""

    split: str
    part: Part
    file: RecordsFile
    first_row: int
    """The part's first row in the file."""

    def write(self, columns: np.ndarray, rows: np.ndarray) -> int:
        """Write the records of int32 [W, R]; ``rows`` are all of the split's in it.

        Returns their CRC-32.
        """
        own = rows[self.part.start : self.part.stop]
        return self.file.write(self.first_row, columns, own)

    def holds(self, crc32: int) -> bool:
        """Say whether the records lie there as they were written."""
        return self.file.holds(self.first_row, self.part.num_rows, crc32)


def plan_shards(
    sizes: Sequence[Sequence[int]], *, rows_per_shard: int = ROWS_PER_SHARD
) -> list[ShardPlan]:
    """Cut each split's rows, block after block, into shards.

    ``sizes`` are the rows of each split that each block holds.
    """
    plans = []
    for code, split in enumerate(SPLITS):
        parts: list[Part] = []
        room, index = rows_per_shard, 0
        for block, by_split in enumerate(sizes):
            start = 0
            while start < by_split[code]:
                stop = min(by_split[code], start + room)
                parts.append(Part(block, start, stop))
                room -= stop - start
                start = stop
                if room == 0:
                    plans.append(ShardPlan(split, index, tuple(parts)))
                    parts, room, index = [], rows_per_shard, index + 1
        if parts:
            plans.append(ShardPlan(split, index, tuple(parts)))
    return plans


def places_of(
    plans: Sequence[ShardPlan], num_blocks: int, made: Path, num_words: int
) -> list[list[Place]]:
    """Return each block's places in the dataset ``made``."""
    places: list[list[Place]] = [[] for _ in range(num_blocks)]
    for plan in plans:
        file, first_row = RecordsFile(plan.shard(made), num_words), 0
        for part in plan.parts:
            places[part.block].append(Place(plan.split, part, file, first_row))
            first_row += part.num_rows
    return places
