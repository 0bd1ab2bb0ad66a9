"""Pick rows of one split from memory-mapped shards.

Shape suffixes: R = rows asked for, W = words of a record, V = ids in their bags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from dlrm.config.busy import reading
from dlrm.config.errors import DatasetError
from dlrm.data.storage.layout import (
    FLOAT,
    INT,
    RECORDS_FILE,
    START,
    STARTS_FILE,
    VALUES_FILE,
    WEIGHTS_FILE,
    RecordLayout,
)
from dlrm.data.storage.manifest import PREPARE_ANEW
from dlrm.data.storage.rows import EncodedRows, concatenate_rows, starts_of

LONG_BAGS = 32
"""Ids a row from which copying row by row beats one index over all ids."""


@dataclass(frozen=True, slots=True)
class MappedShard:
    """The files of one shard, mapped and not read."""

    records: np.ndarray
    """int32 [rows, W]"""
    bag_starts: np.ndarray
    """int64 [rows + 1]; [0] where there are no multi-hot features."""
    bag_values: np.ndarray
    bag_weights: np.ndarray | None
    folder: str = ""
    """Where they lie."""

    @classmethod
    def open(cls, folder: Path, layout: RecordLayout, num_rows: int) -> MappedShard:
        """Map a shard.

        Raises:
            DatasetError: A file's size contradicts the schema or another file.
        """
        records = _map(folder / RECORDS_FILE, INT, num_rows * layout.num_words)
        starts, values, weights = np.zeros(1, dtype=START), np.zeros(0, dtype=INT), None
        if layout.num_multi_hot:
            starts = _map(folder / STARTS_FILE, START, num_rows + 1)
            values = _map(folder / VALUES_FILE, INT, int(starts[-1]))
        if layout.weighted:
            weights = _map(folder / WEIGHTS_FILE, FLOAT, values.size)
        records = records.reshape(num_rows, layout.num_words)
        return cls(records, starts, values, weights, str(folder))


class SplitRows:
    """The rows of a split, numbered from 0 over all shards; threads may share it."""

    def __init__(self, layout: RecordLayout, shards: Sequence[MappedShard]) -> None:
        """Read ``shards`` as consecutive rows of one ``layout``."""
        self._layout = layout
        self._shards = list(shards)
        self._starts = starts_of(np.array([len(shard.records) for shard in shards]))

    @property
    def num_rows(self) -> int:
        """Rows of all shards."""
        return int(self._starts[-1])

    def gather(
        self, rows: np.ndarray, *, scratch: np.ndarray | None = None
    ) -> EncodedRows:
        """Return the rows with these numbers, int64 [R], in this order.

        With ``scratch`` from ``new_scratch`` the result holds views of it, good until
        its next use: fresh memory for each batch costs as much as the rows.

        Raises:
            IndexError: A number is outside the split.
        """
        if rows.size and (rows.min() < 0 or rows.max() >= self.num_rows):
            raise IndexError(
                f"Row numbers must be in [0, {self.num_rows}), but they are in "
                f"[{rows.min()}, {rows.max()}]."
            )
        if scratch is None:
            scratch = self.new_scratch(rows.size)
        records = scratch[: rows.size]
        if len(self._shards) == 1:
            with reading(self._shards[0].folder):
                return self._gather_shard(self._shards[0], rows, records)
        return self._gather_shards(rows, records)

    def slice(self, start: int, stop: int) -> EncodedRows:
        """Return consecutive rows; within one shard they are views of the mapped files.

        Raises:
            IndexError: The range is not within the split.
        """
        if not 0 <= start <= stop <= self.num_rows:
            raise IndexError(
                f"The range must lie in [0, {self.num_rows}], but it is "
                f"[{start}, {stop})."
            )
        parts = [
            self._slice_shard(
                shard, max(start - first, 0), min(stop - first, len(shard.records))
            )
            for shard, first in zip(self._shards, self._starts.tolist(), strict=False)
            if first < stop and start < first + len(shard.records)
        ]
        return concatenate_rows(parts) if parts else self.gather(np.zeros(0, np.int64))

    def new_scratch(self, num_rows: int) -> np.ndarray:
        """Return memory for gathering up to ``num_rows`` rows at a time."""
        return np.empty((num_rows, self._layout.num_words), dtype=INT)

    def _gather_shard(
        self, shard: MappedShard, rows: np.ndarray, records: np.ndarray
    ) -> EncodedRows:
        gather_records(shard.records, rows, out=records)
        if not self._layout.num_multi_hot:
            return self._layout.unpack(records, shard.bag_values[:0], None)
        starts = shard.bag_starts[rows]
        lengths = shard.bag_starts[rows + 1] - starts
        weights = shard.bag_weights
        return self._layout.unpack(
            records,
            gather_ragged(shard.bag_values, starts, lengths),
            None if weights is None else gather_ragged(weights, starts, lengths),
        )

    def _gather_shards(self, rows: np.ndarray, records: np.ndarray) -> EncodedRows:
        """Gather shard by shard, then bring the rows back into the order asked for."""
        shard_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        # 16 bits are sorted by radix, three times as fast as 64.
        by_shard = np.argsort(shard_of_row.astype(np.int16), kind="stable")
        bounds = starts_of(np.bincount(shard_of_row, minlength=len(self._shards)))
        local_rows = (rows - self._starts[shard_of_row])[by_shard]
        gathered = self.new_scratch(rows.size)
        parts = []
        bounds_of_shards = pairwise(bounds.tolist())
        for shard, (low, high) in zip(self._shards, bounds_of_shards, strict=True):
            with reading(shard.folder):
                part = self._gather_shard(
                    shard, local_rows[low:high], gathered[low:high]
                )
            parts.append(part)
        place = np.empty_like(by_shard)
        place[by_shard] = np.arange(rows.size)
        gather_records(gathered, place, out=records)
        if not self._layout.num_multi_hot:
            return self._layout.unpack(records, parts[0].bag_values, None)
        joined = concatenate_rows(parts)
        starts = joined.value_starts()
        lengths, starts = np.diff(starts)[place], starts[place]
        weights = joined.bag_weights
        return self._layout.unpack(
            records,
            gather_ragged(joined.bag_values, starts, lengths),
            None if weights is None else gather_ragged(weights, starts, lengths),
        )

    def _slice_shard(self, shard: MappedShard, start: int, stop: int) -> EncodedRows:
        records = shard.records[start:stop]
        if not self._layout.num_multi_hot:
            return self._layout.unpack(records, shard.bag_values[:0], None)
        values = slice(int(shard.bag_starts[start]), int(shard.bag_starts[stop]))
        weights = shard.bag_weights
        return self._layout.unpack(
            records,
            shard.bag_values[values],
            None if weights is None else weights[values],
        )


def gather_records(records: np.ndarray, rows: np.ndarray, *, out: np.ndarray) -> None:
    """Copy ``records[rows]`` to ``out``; the row numbers are known to be in range."""
    # "clip" writes straight into out; "raise" would go through a second buffer.
    np.take(records, rows, axis=0, out=out, mode="clip")


def gather_ragged(
    values: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """Return ``values[start : start + length]`` of each pair, joined: [V]."""
    num_values = int(lengths.sum())
    if num_values == 0:
        return np.zeros(0, dtype=values.dtype)
    length = int(lengths[0])
    if length and (lengths == length).all() and not (starts % length).any():
        # Bags of fixed sizes, as MLPerf's multi-hot ones, are rows of a matrix.
        matrix = values[: values.size // length * length].reshape(-1, length)
        return matrix.take(starts // length, axis=0).reshape(-1)
    if num_values >= LONG_BAGS * lengths.size:
        stops = (starts + lengths).tolist()
        pairs = zip(starts.tolist(), stops, strict=True)
        return np.concatenate([values[start:stop] for start, stop in pairs])
    first_outputs = np.cumsum(lengths) - lengths
    index = np.repeat(starts - first_outputs, lengths)
    index += np.arange(num_values)
    return values.take(index)


def _map(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    size = path.stat().st_size
    if size != count * dtype.itemsize:
        raise DatasetError(
            f"{path} must hold {count} numbers of {dtype.itemsize} bytes, but it is "
            f"{size} bytes: it does not fit the schema or the shard's other files. "
            f"{PREPARE_ANEW}"
        )
    if count == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    # A plain array over the map: the memmap class itself slows every slice.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
