"""Encoded rows: what transforms make, shards store and batches are collated from.

Shape suffixes: R = rows, N = dense columns, F1 = one-hot features, F2 = multi-hot
features, V = ids in all bags together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Some rows as numbers; features in schema order within each array."""

    labels: np.ndarray
    """float32 [R]; 0 where unknown, as in predict, and where labels are classes."""
    weights: np.ndarray
    """float32 [R]"""
    dense: np.ndarray
    """float32 [R, N]"""
    one_hot: np.ndarray
    """int32 [R, F1]"""
    bag_lengths: np.ndarray
    """int32 [R, F2]; a last column of class ids where labels are classes."""
    bag_values: np.ndarray
    """int32 [V], row-major: row 0's first feature, its second, ..., then row 1's."""
    bag_weights: np.ndarray | None = None
    """float32 [V], 1.0 for ids of unweighted features; None where none is weighted."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    def value_starts(self) -> np.ndarray:
        """Return int64 [R + 1]: where each row's ids start in ``bag_values``."""
        return starts_of(self.bag_lengths.sum(axis=1, dtype=np.int64))

    def pieces(self, bounds: Sequence[int]) -> Iterator[EncodedRows]:
        """Yield the rows between each two neighbours of ``bounds``, as views."""
        value_starts = self.value_starts()
        for start, stop in pairwise(bounds):
            values = slice(value_starts[start], value_starts[stop])
            weights = self.bag_weights
            yield EncodedRows(
                labels=self.labels[start:stop],
                weights=self.weights[start:stop],
                dense=self.dense[start:stop],
                one_hot=self.one_hot[start:stop],
                bag_lengths=self.bag_lengths[start:stop],
                bag_values=self.bag_values[values],
                bag_weights=None if weights is None else weights[values],
            )


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Return int64 [n + 1]: 0 and the running sums of n lengths."""
    starts = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def concatenate_rows(parts: Sequence[EncodedRows]) -> EncodedRows:
    """Join one or more parts, in order."""
    if len(parts) == 1:
        return parts[0]
    weights = [part.bag_weights for part in parts if part.bag_weights is not None]
    return EncodedRows(
        labels=np.concatenate([part.labels for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        dense=np.concatenate([part.dense for part in parts]),
        one_hot=np.concatenate([part.one_hot for part in parts]),
        bag_lengths=np.concatenate([part.bag_lengths for part in parts]),
        bag_values=np.concatenate([part.bag_values for part in parts]),
        bag_weights=np.concatenate(weights) if weights else None,
    )


def rechunk_rows(chunks: Iterable[EncodedRows], size: int) -> Iterator[EncodedRows]:
    """Yield the same rows in chunks of ``size``; the last one may be shorter."""
    waiting: list[EncodedRows] = []
    num_waiting = 0
    for chunk in chunks:
        # The first cut completes what waits; all further ones are whole chunks.
        bounds = [0, *range(size - num_waiting, len(chunk), size), len(chunk)]
        for piece in chunk.pieces(bounds):
            waiting.append(piece)
            num_waiting += len(piece)
            if num_waiting == size:
                yield concatenate_rows(waiting)
                waiting, num_waiting = [], 0
    if num_waiting:
        yield concatenate_rows(waiting)
