"""Merge the counted parts of a table: its vocabulary, and each block's rows of it.

Row 0 is for all values that are not known; known ones follow, most frequent first,
equally frequent ones by their bytes, whatever the parts were.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.durable import writing_to
from dlrm.data.preparation.blocks import BlockStore, BlockWriter, FinishedBlock
from dlrm.data.preparation.counting import (
    COUNTS,
    NUMBERS,
    RANKS,
    SIZES,
    ranked_keys,
)
from dlrm.data.transforms.vocabulary import (
    VOCABULARY_SCHEMA,
    vocabulary_order,
    vocabulary_path,
)
from dlrm.kernels.checksum import crc32_of_file

_VALUES_AT_ONCE = 1 << 19
"""Values of all parts that are put in order at a time."""
_ROWS_PER_GROUP = 1 << 20


def rows_section(feature: str) -> str:
    """Name the section with a feature's rows, text by text of each block."""
    return f"rows:{feature}"


@dataclass(frozen=True, slots=True)
class MergeTask:
    """Write a table's vocabulary and, for each text of each block, its row."""

    store: BlockStore
    name: str
    table: str
    features: tuple[str, ...]
    parts: tuple[str, ...]
    """Names of the counted parts, whose buckets follow one another."""
    num_embeddings: int | None
    made: Path
    """The dataset that is being made."""

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Write the vocabulary's file, and a section for each feature."""
        parts = [self.store.open(name) for name in self.parts]
        limit = None if self.num_embeddings is None else self.num_embeddings - 1
        path = vocabulary_path(self.made, self.table)
        row_of_rank, num_known = _write_vocabulary(parts, limit, path)
        row_of_number = []
        for part, rows in zip(parts, row_of_rank, strict=True):
            # Rank -1, a value that is too rare, has the last place here: row 0.
            known = np.append(rows, np.int32(0))
            row_of_number.append(known[part.numbers(RANKS, np.int32)])
        for number, feature in enumerate(self.features):
            out.append(rows_section(feature), b"")
            for rows in self._rows(parts, row_of_number, number):
                out.append(rows_section(feature), rows)
        return {
            "num_known": num_known,
            "num_values": sum(part.result["num_values"] for part in parts),
            "crc32": crc32_of_file(path),
        }

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say whether the vocabulary's file is still as it was written."""
        path = vocabulary_path(self.made, self.table)
        return path.is_file() and crc32_of_file(path) == result["crc32"]

    def _rows(
        self, parts: list[FinishedBlock], row_of_number: list[np.ndarray], feature: int
    ) -> Iterator[np.ndarray]:
        """Yield the rows of one feature's texts, block by block."""
        step = len(self.features)
        sizes = [part.numbers(SIZES, np.int64) for part in parts]
        starts = [np.cumsum(size) - size for size in sizes]
        for place in range(feature, sizes[0].size, step):
            rows = [
                of_number[
                    part.numbers(NUMBERS, np.int32, int(start[place]), int(size[place]))
                ]
                for part, of_number, start, size in zip(
                    parts, row_of_number, starts, sizes, strict=True
                )
            ]
            yield np.concatenate(rows)


def _write_vocabulary(
    parts: list[FinishedBlock], limit: int | None, path: Path
) -> tuple[list[np.ndarray], int]:
    """Write the known values; return the row of each rank of each part, and how many.

    The file is the same however the values are cut into parts.
    """
    row_of_rank = [np.zeros(part.size(COUNTS) // 8, dtype=np.int32) for part in parts]
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.half")
    num_known = 0
    with writing_to(path):
        with pq.ParquetWriter(half, VOCABULARY_SCHEMA) as writer:
            groups = _Groups(writer)
            for keys, counts, owners, ranks in _in_order(parts):
                room = len(keys) if limit is None else limit - num_known
                keys, counts = keys[:room], counts[:room]
                rows = np.arange(num_known + 1, num_known + 1 + len(keys))
                for number, rows_of_part in enumerate(row_of_rank):
                    own = owners[: len(keys)] == number
                    rows_of_part[ranks[: len(keys)][own]] = rows[own]
                groups.add(keys, counts)
                num_known += len(keys)
                if num_known == limit:
                    break
            groups.flush()
        half.replace(path)
    return row_of_rank, num_known


class _Groups:
    """Writes row groups of one size: the file must not show how values came."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pa.Table] = []
        self._size = 0

    def add(self, keys: pa.Array, counts: np.ndarray) -> None:
        table = pa.table([keys, pa.array(counts)], schema=VOCABULARY_SCHEMA)
        self._waiting.append(table)
        self._size += table.num_rows
        while self._size >= _ROWS_PER_GROUP:
            self._write(_ROWS_PER_GROUP)

    def flush(self) -> None:
        self._write(self._size)

    def _write(self, num_rows: int) -> None:
        if not self._waiting:
            return
        all_rows = pa.concat_tables(self._waiting)
        group = all_rows.slice(0, num_rows).combine_chunks()
        self._writer.write_table(group, row_group_size=max(num_rows, 1))
        rest = all_rows.slice(num_rows)
        self._waiting, self._size = [rest] if rest.num_rows else [], rest.num_rows


def _in_order(
    parts: list[FinishedBlock],
) -> Iterator[tuple[pa.Array, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield keys, counts, and part and rank of each value, in the vocabulary's order.

    Each part is in order: cuts through all of them at the same places leave stretches
    that can be put in order one after the other (a sample sort).
    """
    for bounds in _stretches(parts):
        keys = pa.concat_arrays(
            [ranked_keys(p, *b) for p, b in zip(parts, bounds, strict=True)]
        )
        counts = np.concatenate(
            [
                part.numbers(COUNTS, np.int64, start, stop - start)
                for part, (start, stop) in zip(parts, bounds, strict=True)
            ]
        )
        sizes = [stop - start for start, stop in bounds]
        owners = np.repeat(np.arange(len(parts)), sizes)
        ranks = np.concatenate([np.arange(start, stop) for start, stop in bounds])
        if len(parts) > 1:
            order = vocabulary_order(keys, counts)
            keys = keys.take(pa.array(order))
            counts, owners, ranks = counts[order], owners[order], ranks[order]
        yield keys, counts, owners, ranks


def _stretches(parts: list[FinishedBlock]) -> Iterator[list[tuple[int, int]]]:
    """Yield the ranks of each part, from and to, that come next in the order."""
    sizes = [part.size(COUNTS) // 8 for part in parts]
    step = max(_VALUES_AT_ONCE // len(parts), 1)
    cuts = sorted(
        _Ranked(part)[rank]
        for part, size in zip(parts, sizes, strict=True)
        for rank in range(step, size, step)
    )
    starts = [0] * len(parts)
    for cut in [*cuts[len(parts) - 1 :: len(parts)], None]:
        stops = [
            size if cut is None else bisect_left(_Ranked(part), cut, start, size)
            for part, start, size in zip(parts, starts, sizes, strict=True)
        ]
        yield list(zip(starts, stops, strict=True))
        starts = stops


@dataclass(frozen=True, slots=True)
class _Ranked:
    """What a part's values are ordered by, by rank."""

    part: FinishedBlock

    def __getitem__(self, rank: int) -> tuple[int, bytes]:
        count = int(self.part.numbers(COUNTS, np.int64, rank, 1)[0])
        key = ranked_keys(self.part, rank, rank + 1)[0].as_buffer()
        return -count, key.to_pybytes()

    def __len__(self) -> int:
        return self.part.size(COUNTS) // 8
