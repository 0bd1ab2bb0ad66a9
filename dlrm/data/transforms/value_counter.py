"""Count texts chunk by chunk in memory that grows with distinct values alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa

from dlrm.data.transforms.hashing import starts_of_texts
from dlrm.data.transforms.vocabulary import VOCABULARY_SCHEMA
from dlrm.kernels.text_counter import TextCounter
from dlrm.kernels.text_library import loaded

_MIN_PENDING = 1 << 20


class ValueCounter(Protocol):
    """Distinct texts and their counts."""

    def add_counts(self, texts: pa.Array, counts: np.ndarray) -> None:
        """Take in texts, each ``counts`` times, which may be 0."""
        ...

    def finish(self) -> pa.Table:
        """Return the columns ``key`` and ``count``, each key once, as they came."""
        ...


def value_counter(
    numbers_to: Callable[[np.ndarray], None] | None = None,
) -> ValueCounter:
    """Return a counter of nothing yet.

    ``numbers_to`` is given, text by text as they were added, the place that each has
    among the distinct ones, int32.
    """
    if loaded() is None:
        return _ArrowCounter(numbers_to)
    return _NativeCounter(numbers_to)


def bytes_a_value() -> tuple[int, int]:
    """Return what counting holds of a distinct value at most, its text apart.

    Second is how many copies of the text there are.
    """
    return (260, 5) if loaded() is None else (130, 4)


class _NativeCounter:
    """Counts in a hash table."""

    def __init__(self, numbers_to: Callable[[np.ndarray], None] | None) -> None:
        self._counter = TextCounter()
        self._numbers_to = numbers_to

    def add_counts(self, texts: pa.Array, counts: np.ndarray) -> None:
        offsets, data = starts_of_texts(texts.cast(pa.large_string()))
        numbers = self._counter.add(offsets, data, counts.astype(np.int64))
        if self._numbers_to is not None:
            self._numbers_to(numbers)

    def finish(self) -> pa.Table:
        offsets, data, counts = self._counter.finish()
        del self._counter
        buffers = (pa.py_buffer(offsets), pa.py_buffer(data))
        keys = pa.LargeStringArray.from_buffers(counts.size, *buffers)
        return pa.table([keys, pa.array(counts)], schema=VOCABULARY_SCHEMA)


class _ArrowCounter:
    """Merges what was counted with what came since, whenever that is as much."""

    def __init__(self, numbers_to: Callable[[np.ndarray], None] | None) -> None:
        self._merged = VOCABULARY_SCHEMA.empty_table()
        self._pending: list[pa.Table] = []
        self._num_pending = 0
        self._numbers_to = numbers_to

    def add_counts(self, texts: pa.Array, counts: np.ndarray) -> None:
        keys = texts.cast(pa.large_string())
        columns = [keys, pa.array(counts, pa.int64())]
        self._pending.append(pa.table(columns, schema=VOCABULARY_SCHEMA))
        self._num_pending += len(keys)
        # Merging when as much waits as is merged costs a constant a value over all.
        if self._num_pending > max(_MIN_PENDING, self._merged.num_rows):
            self._merge()

    def finish(self) -> pa.Table:
        self._merge()
        return self._merged

    def _merge(self) -> None:
        if not self._pending:
            return
        num_merged = self._merged.num_rows
        waiting = pa.concat_tables([self._merged, *self._pending])
        self._pending.clear()
        self._num_pending = 0
        self._merged = VOCABULARY_SCHEMA.empty_table()
        numbers_in = waiting["count"].to_numpy()
        # What was merged comes first, and so keeps its places.
        keys = waiting["key"].combine_chunks()
        del waiting
        keys = keys.dictionary_encode()
        places = keys.indices.to_numpy()
        # A float64 holds whole numbers up to 2**53, more rows than any log has.
        totals = np.bincount(places, numbers_in, len(keys.dictionary))
        counts = pa.array(totals.astype(np.int64))
        self._merged = pa.table([keys.dictionary, counts], schema=VOCABULARY_SCHEMA)
        if self._numbers_to is not None:
            self._numbers_to(places[num_merged:])
