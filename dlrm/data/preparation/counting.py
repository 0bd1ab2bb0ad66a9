"""Count a table's values block by block, a part of the range of hashes at a time.

A part's distinct values fit in a worker's memory; a table that has more is counted in
several parts, each of which reads its own stretch of every block's dictionary. What a
part gives lies on disk until the parts are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm.data.preparation.blocks import BlockStore, BlockWriter, FinishedBlock
from dlrm.data.preparation.spill import NUM_BUCKETS, SpilledBlock, column_of
from dlrm.data.preparation.splits import TRAIN
from dlrm.data.transforms.fitted import flat_texts
from dlrm.data.transforms.value_counter import bytes_a_value, value_counter
from dlrm.data.transforms.vocabulary import vocabulary_order

NUMBERS, SIZES, RANKS, COUNTS, STARTS, TEXTS = (
    "numbers", "sizes", "ranks", "counts", "starts", "texts",
)  # fmt: skip
"""Sections of a counted part: the number of each text of each block, how many texts
each block has, the rank of each number (-1 for values that are too rare), and the
values by rank: their counts, and their texts as offsets and bytes."""
_LOOKED_AT = 2
"""Buckets of which the distinct values are counted to estimate all."""


@dataclass(frozen=True, slots=True)
class CountTask:
    """Count the values of one table whose hashes lie in some buckets."""

    store: BlockStore
    name: str
    features: tuple[str, ...]
    """Those that share the table; their columns are read one after the other."""
    blocks: tuple[SpilledBlock, ...]
    codes: Path
    buckets: tuple[int, int]
    min_frequency: int

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Write the values by rank, and where each block's texts stand among them."""
        counter = value_counter(lambda numbers: out.append(NUMBERS, numbers))
        out.append(NUMBERS, b"")
        sizes = []
        for block in self.blocks:
            is_train = block.codes(self.codes) == TRAIN
            for feature in self.features:
                texts, counts = _counted(block, feature, is_train)
                low, high = block.bucket_starts(column_of(feature))[list(self.buckets)]
                sizes.append(high - low)
                if high > low:
                    counter.add_counts(texts[low:high], counts[low:high])
        found = counter.finish()
        keys, counts = _columns(found)
        out.append(SIZES, np.array(sizes, dtype=np.int64))
        _write_ranked(out, keys, counts, max(self.min_frequency, 1))
        return {"num_values": int(np.count_nonzero(counts))}

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say that a count holds: whatever would change it starts the work anew."""
        del result
        return True


@dataclass(frozen=True, slots=True)
class CutTask:
    """Cut a table's buckets into parts whose distinct values fit ``memory_bytes``.

    Where the blocks' texts would all fit nothing is looked at; otherwise the distinct
    ones of a few buckets are counted, which stand for the others, as hashes are even.
    """

    store: BlockStore
    name: str
    features: tuple[str, ...]
    blocks: tuple[SpilledBlock, ...]
    memory_bytes: int

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Return the parts, from and to."""
        del out
        columns = [column_of(feature) for feature in self.features]
        num_texts = sum(b.num_texts(name) for b in self.blocks for name in columns)
        num_parts = 1
        size, copies = bytes_a_value()
        if num_texts * (size + 8 * copies) > self.memory_bytes:
            wanted = -(-self._estimated_bytes(columns) // self.memory_bytes)
            num_parts = max(1, min(wanted, NUM_BUCKETS))
        bounds = [NUM_BUCKETS * part // num_parts for part in range(num_parts + 1)]
        return {"parts": list(pairwise(bounds)), "memory_bytes": self.memory_bytes}

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say whether the parts were cut for the memory that there is now."""
        return bool(result["memory_bytes"] == self.memory_bytes)

    def _estimated_bytes(self, columns: Sequence[str]) -> int:
        counter = value_counter()
        for block in self.blocks:
            for name in columns:
                texts, _ = flat_texts(block.column(name))
                stop = int(block.bucket_starts(name)[_LOOKED_AT])
                counts = np.zeros(stop, dtype=np.int64)
                counter.add_counts(texts.dictionary[:stop], counts)
        keys, _ = _columns(counter.finish())
        text_bytes = int(sum(b.size for b in keys.buffers()[2:] if b is not None))
        size, copies = bytes_a_value()
        return (len(keys) * size + copies * text_bytes) * NUM_BUCKETS // _LOOKED_AT


def ranked_keys(part: FinishedBlock, start: int, stop: int) -> pa.Array:
    """Return the values of a counted part with ranks ``start`` to ``stop``."""
    if stop <= start:
        return pa.array([], pa.large_string())
    starts = part.numbers(STARTS, np.int64, start, stop - start + 1)
    text = part.read(TEXTS, int(starts[0]), int(starts[-1] - starts[0]))
    offsets = pa.py_buffer((starts - starts[0]).tobytes())
    return pa.LargeStringArray.from_buffers(stop - start, offsets, pa.py_buffer(text))


def _counted(
    block: SpilledBlock, feature: str, is_train: np.ndarray
) -> tuple[pa.Array, np.ndarray]:
    """Return a block's texts, and how often each occurs in the training rows."""
    texts, lengths = flat_texts(block.column(column_of(feature)))
    is_counted = is_train if lengths is None else np.repeat(is_train, lengths)
    codes = texts.indices.to_numpy()[is_counted]
    return texts.dictionary, np.bincount(codes, minlength=len(texts.dictionary))


def _columns(found: pa.Table) -> tuple[pa.Array, np.ndarray]:
    keys = [pa.array([], pa.large_string()), *found["key"].chunks]
    return pa.concat_arrays(keys), found["count"].to_numpy()


def _write_ranked(
    out: BlockWriter, keys: pa.Array, counts: np.ndarray, least: int
) -> None:
    frequent = np.flatnonzero(counts >= least)
    keys, counts, num_values = (
        keys.take(pa.array(frequent)), counts[frequent], counts.size,
    )  # fmt: skip
    order = vocabulary_order(keys, counts)
    ranks = np.full(num_values, -1, dtype=np.int32)
    ranks[frequent[order]] = np.arange(order.size, dtype=np.int32)
    out.append(RANKS, ranks)
    out.append(COUNTS, counts[order])
    keys = keys.take(pa.array(order))
    _, offsets, text = keys.buffers()
    starts = np.zeros(1, dtype=np.int64)
    if offsets is not None and len(keys):
        starts = np.frombuffer(offsets, np.int64)[keys.offset :][: len(keys) + 1]
    out.append(STARTS, starts - starts[0])
    stop = int(starts[-1])
    data = b"" if text is None else memoryview(text)[int(starts[0]) : stop]
    out.append(TEXTS, data)
