"""Equal-frequency bucket boundaries, fitted in bounded memory."""

from __future__ import annotations

import numpy as np

from dlrm.data.transforms.hashing import splitmix64

MAX_SAMPLE = 4_000_000


class QuantileSample:
    """All values while there are few, else a sample that their order determines."""

    def __init__(self, max_size: int = MAX_SAMPLE) -> None:
        """Keep at most ``max_size`` values."""
        self._max_size = max_size
        self._num_seen = 0
        self._level = 0
        self._values: list[np.ndarray] = []
        self._hashes: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Take in some values; NaN is left out."""
        values = values[~np.isnan(values)]
        numbers = np.arange(values.size, dtype=np.uint64) + np.uint64(self._num_seen)
        self._num_seen += values.size
        hashes = splitmix64(numbers)
        chosen = self._is_chosen(hashes)
        self._values.append(values[chosen])
        self._hashes.append(hashes[chosen])
        while sum(kept.size for kept in self._values) > self._max_size:
            # Of hashes below 2**64 / 2**level, half are below the next power of two.
            self._level += 1
            self._thin()

    def boundaries(self, num_buckets: int) -> tuple[float, ...]:
        """Return at most ``num_buckets - 1`` boundaries, ascending.

        Bucket i holds what lies at or above boundary i - 1 and below boundary i, and
        equally many values each where all differ. Boundaries that ties make equal are
        given once; one at the least value, with nothing below it, is left out.
        """
        ordered = np.sort(np.concatenate([np.zeros(0), *self._values]))
        if ordered.size == 0:
            return ()
        places = np.arange(1, num_buckets) * ordered.size // num_buckets
        found = np.unique(ordered[places])
        return tuple(found[found > ordered[0]].tolist())

    def _thin(self) -> None:
        values, hashes = np.concatenate(self._values), np.concatenate(self._hashes)
        kept = self._is_chosen(hashes)
        self._values, self._hashes = [values[kept]], [hashes[kept]]

    def _is_chosen(self, hashes: np.ndarray) -> np.ndarray:
        if self._level == 0:
            return np.ones(hashes.size, dtype=bool)
        chosen: np.ndarray = hashes >> np.uint64(64 - self._level) == 0
        return chosen


def bucket_rows(values: np.ndarray, boundaries: tuple[float, ...]) -> np.ndarray:
    """Return int32 rows: 0 where missing, else 1 + boundaries at or below the value."""
    rows = np.searchsorted(np.array(boundaries, dtype=np.float64), values, side="right")
    return np.where(np.isnan(values), 0, rows + 1).astype(np.int32)
