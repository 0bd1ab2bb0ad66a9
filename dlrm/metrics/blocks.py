"""Many rows in blocks that stay in the cache, two at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

ROWS_PER_BLOCK = 1 << 16
_PARALLEL_ROWS = 1 << 19
_NUM_THREADS = 2

T = TypeVar("T")
U = TypeVar("U")


def blocks(num_rows: int) -> list[slice]:
    """Return slices that cover the rows; a few temporaries of one fit the cache."""
    starts = range(0, num_rows, ROWS_PER_BLOCK)
    return [slice(start, min(start + ROWS_PER_BLOCK, num_rows)) for start in starts]


def for_each(function: Callable[[slice], T], slices: Sequence[slice]) -> list[T]:
    """Return ``function`` of every slice, in order; of many rows two at a time."""
    return two_at_a_time(function, slices, slices[-1].stop if slices else 0)


def two_at_a_time(
    function: Callable[[U], T], items: Sequence[U], num_rows: int
) -> list[T]:
    """Return ``function`` of every item, in order; together they have so many rows.

    numpy computes without the interpreter's lock, so threads run at once. Few rows are
    not worth them.
    """
    if num_rows < _PARALLEL_ROWS:
        return [function(item) for item in items]
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(function, items))


def sort_in_place(keys: np.ndarray) -> None:
    """Sort whole numbers, of many the lower and the upper half at the same time."""
    if len(keys) < _PARALLEL_ROWS:
        keys.sort()
        return
    middle = len(keys) // 2
    keys.partition(middle)
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        list(pool.map(np.ndarray.sort, (keys[:middle], keys[middle:])))


def cut_between_ties(values: np.ndarray, *, tie_end: int = 0) -> list[slice]:
    """Return slices of sorted whole numbers that cover them; a tie lies in one.

    Numbers that differ in the bits of ``tie_end`` alone are tied too.
    """
    edges = [0]
    while edges[-1] < len(values):
        last = values[min(edges[-1] + ROWS_PER_BLOCK, len(values)) - 1] | tie_end
        edges.append(int(np.searchsorted(values, last, side="right")))
    return [slice(start, end) for start, end in pairwise(edges)]


def tie_starts(values: np.ndarray) -> np.ndarray:
    """Return where in sorted ``values``, at least one, a new value begins."""
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
