"""Hashes of whole rows in bounded memory, by which equal rows are found.

Shape suffixes: R = rows, V = ids in all bags together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.sample import limit_for
from dlrm.data.storage.rows import EncodedRows, starts_of
from dlrm.data.transforms.hashing import splitmix64

MAX_HASHES = 1 << 15
_EVERY = int(np.iinfo(np.uint64).max)
_NUM_QUICK = 3
_QUICK_FACTORS = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xC2B2AE3D27D4EB4F),
    np.uint64(0x165667B19E3779F9),
)


class HashSketch:
    """All hashes while there are few, else those of the rows with low keys.

    A key is a function of the row's content: equal rows are kept or left out together,
    so shares of rows that two sketches have in common are unbiased.
    """

    def __init__(self, expected_rows: int = 0) -> None:
        """Start with none; of ``expected_rows`` not all may be taken in."""
        self.limit = limit_for(expected_rows, MAX_HASHES)
        self._keys = np.zeros(0, dtype=np.uint64)
        self._hashes = np.zeros(0, dtype=np.uint64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0

    def add(self, keys: np.ndarray, hashes: np.ndarray) -> None:
        """Take in rows, all with keys at or below ``limit``."""
        self._waiting.append((keys, hashes))
        self._num_waiting += keys.size
        if self._num_waiting > MAX_HASHES:
            self._gather()

    def merge(self, other: HashSketch) -> None:
        """Take in another sketch's rows."""
        other._gather()
        self.limit = min(self.limit, other.limit)
        self.add(other._keys, other._hashes)
        self._gather()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what is kept, by name."""
        self._gather()
        limit = np.array([self.limit], dtype=np.uint64)
        return {"limit": limit, "keys": self._keys, "hashes": self._hashes}

    def take_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become the sketch that ``to_arrays`` was of."""
        self.limit = int(arrays["limit"][0])
        self._keys, self._hashes = arrays["keys"], arrays["hashes"]

    def hashes(self, limit: int = _EVERY) -> np.ndarray:
        """Return the hashes of rows with keys at or below ``limit``, one a row."""
        self._gather()
        found: np.ndarray = self._hashes[self._keys <= np.uint64(limit)]
        return found

    def _gather(self) -> None:
        keys = np.concatenate([self._keys, *(part[0] for part in self._waiting)])
        hashes = np.concatenate([self._hashes, *(part[1] for part in self._waiting)])
        self._waiting, self._num_waiting = [], 0
        # One content that fills the sketch has one key, and cannot be halved.
        while (keys <= np.uint64(self.limit)).sum() > MAX_HASHES and self.limit > 0:
            self.limit >>= 1
        is_kept = keys <= np.uint64(self.limit)
        self._keys, self._hashes = keys[is_kept], hashes[is_kept]


def quick_keys(rows: EncodedRows, schema: FeatureSchema) -> np.ndarray:
    """Return uint64 [R] from a few columns: which rows are worth a whole hash."""
    largest = sorted(
        range(len(schema.one_hot)), key=lambda i: -schema.one_hot[i].num_embeddings
    )
    columns = [rows.one_hot[:, index] for index in largest[:_NUM_QUICK]]
    columns += [rows.dense[:, i] for i in range(min(_NUM_QUICK, schema.num_dense))]
    keys = np.zeros(len(rows), dtype=np.uint64)
    for column, factor in zip(columns[:_NUM_QUICK], _QUICK_FACTORS, strict=False):
        keys += _words(column) * factor
    if not columns:
        return row_hashes(rows, np.arange(len(rows)))
    return splitmix64(keys)


def row_hashes(rows: EncodedRows, chosen: np.ndarray) -> np.ndarray:
    """Return a uint64 for each chosen row, of its label, features and their order."""
    hashes = np.zeros(chosen.size, dtype=np.uint64)
    columns = [rows.labels[chosen]]
    for matrix in (rows.dense, rows.one_hot, rows.bag_lengths):
        picked = matrix[chosen]
        columns += [picked[:, index] for index in range(picked.shape[1])]
    for column in columns:
        # A cheap mixture of the order, scrambled for good at the end.
        hashes ^= _words(column)
        hashes *= _QUICK_FACTORS[0]
        hashes ^= hashes >> np.uint64(29)
    if rows.bag_lengths.shape[1]:
        hashes ^= _bag_hashes(rows, chosen)
    return splitmix64(hashes)


def _bag_hashes(rows: EncodedRows, chosen: np.ndarray) -> np.ndarray:
    starts = rows.value_starts()
    lengths = np.diff(starts)[chosen]
    own = starts_of(lengths)
    places = np.arange(int(own[-1])) - np.repeat(own[:-1], lengths)
    values = rows.bag_values[np.repeat(starts[chosen], lengths) + places]
    mixed = splitmix64(_words(values) ^ (places.astype(np.uint64) << np.uint64(32)))
    # Sums wrap around, and so do their differences.
    sums = np.zeros(mixed.size + 1, dtype=np.uint64)
    np.cumsum(mixed, out=sums[1:])
    total: np.ndarray = sums[own[1:]] - sums[own[:-1]]
    return total


def _words(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
