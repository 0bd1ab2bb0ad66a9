"""A made-up click log in the form of Criteo's Kaggle file, a function of its size.

Each line is a label, 13 counts and 26 hexadecimal ids, some of both missing. Ids of a
column follow a power law over as many values as that column of the real file has: the
lower its exponent, the more of them occur. Their text is a hash of the number, so that
it has no order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CARDINALITIES = (
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194,
    27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
)  # fmt: skip
"""Distinct ids of each column of the Kaggle file."""
_NUM_COUNTS = 13
EXPONENT = 1.05
_CLICK_RATE = 0.25
_MISSING_COUNTS, _MISSING_IDS = 0.15, 0.04
_ROWS_PER_WRITE = 65_536
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def write_criteo_log(
    path: Path, *, num_rows: int, seed: int = 0, exponent: float = EXPONENT
) -> None:
    """Write the file, 65,536 rows at a time; ``exponent`` is above 0 and not 1."""
    with path.open("wb") as file:
        for start in range(0, num_rows, _ROWS_PER_WRITE):
            count = min(_ROWS_PER_WRITE, num_rows - start)
            random = np.random.Generator(np.random.Philox(key=[seed, start]))
            file.write(_lines(random, count, exponent))


def _lines(random: np.random.Generator, count: int, exponent: float) -> memoryview:
    label = (random.random(count) < _CLICK_RATE).astype(np.int8)
    columns = [pa.array(label).cast(pa.string())]
    columns += [_counts(random, count) for _ in range(_NUM_COUNTS)]
    for column, size in enumerate(CARDINALITIES):
        ranks = power_law_ranks(random.random(count), size, exponent=exponent)
        columns.append(_ids(random, ranks, column=column))
    joined = pc.binary_join_element_wise(*columns, "\t")
    ended = pc.binary_join_element_wise(joined, pa.scalar(""), "\n")
    return memoryview(ended.cast(pa.large_string()).buffers()[2])[
        : int(pc.sum(pc.binary_length(ended)).as_py())
    ]


def _counts(random: np.random.Generator, count: int) -> pa.Array:
    """Return counts as text, a few high, some missing."""
    values = np.exp(random.normal(1.0, 1.8, count)).astype(np.int32)
    texts = pa.array(values).cast(pa.string())
    return pc.if_else(pa.array(random.random(count) < _MISSING_COUNTS), "", texts)


def _ids(random: np.random.Generator, ranks: np.ndarray, *, column: int) -> pa.Array:
    """Return ids as eight hexadecimal digits, some missing."""
    texts = _hexadecimal(_mixed(ranks + (column << 32)))
    return pc.if_else(pa.array(random.random(ranks.size) < _MISSING_IDS), "", texts)


def power_law_ranks(
    draws: np.ndarray, num_values: int, *, exponent: float = EXPONENT
) -> np.ndarray:
    """Return int64 ranks from 0 by inverting the continuous power law over draws.

    Zipf's law but for rounding, at a cost that does not grow with the number of values.
    """
    power = 1 - exponent
    inner = 1 + draws * ((num_values + 1) ** power - 1)
    ranks = np.floor(inner ** (1 / power)).astype(np.int64) - 1
    capped: np.ndarray = np.minimum(ranks, num_values - 1)
    return capped


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return 32 bits of splitmix64's finaliser: near enough distinct."""
    mixed = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    high: np.ndarray = (mixed >> np.uint64(32)).astype(np.uint32)
    return high


def _hexadecimal(values: np.ndarray) -> pa.Array:
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    digits = _HEX[(values[:, None] >> shifts) & np.uint32(15)]
    offsets = np.arange(0, 8 * len(values) + 1, 8, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(digits.tobytes())]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)
