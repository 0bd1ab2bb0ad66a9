"""Initial table values as a function of (seed, table, row key, column).

A counter-based generator: no value depends on another, so any shard, chunk or order of
filling gives the same bits, and a row keeps its draws when its vocabulary grows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.embeddings.kernel_options import TableConfig, padding_row
from dlrm.embeddings.names import table_name
from dlrm.embeddings.table_config import options_of

Words = npt.NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)
_LOW_HALF = np.uint64(0xFFFFFFFF)
# A chunk's words and their scratch (256 KiB each) stay in the second-level cache.
_WORDS_PER_CHUNK = 32_768
# Threads take larger ones, as each step of a chunk costs them a turn at Python's lock.
_WORDS_PER_THREADS_CHUNK = 131_072
_LARGE_WORDS = 1 << 20


@dataclass(frozen=True, slots=True)
class InitialValues:
    """Initial values of every table of one model.

    An initialiser without a ``scale`` scales a table by 1 / sqrt(its rows): a grown
    table then has the same draws on a smaller scale.
    """

    seed: int
    default: EmbeddingInit
    """The distribution of values of tables without their own."""
    row_keys: Callable[[str], Words]
    """From a vocabulary's name, which is its table's, to one stable 64-bit key a
    row."""

    def fill(
        self,
        table: TableConfig,
        out: torch.Tensor,
        start_row: int = 0,
        start_column: int = 0,
    ) -> None:
        """Write the values of a part of ``table`` into ``out``; zeros into its padding.

        Args:
            table: Config of the whole table.
            out: [rows, dim] on any device; values are float32 before its own type.
            start_row: Row of the table that ``out``'s first row is.
            start_column: Column of the table that ``out``'s first column is.
        """
        name, init = table_name(table.name), options_of(table).init or self.default
        keys = self.row_keys(vocabulary_of(table))
        scale = init.scale
        if scale is None:
            scale = 1.0 / math.sqrt(max(len(keys), 1))
        num_rows, dim = out.shape
        row_words = keys[start_row : start_row + num_rows]
        if len(row_words) != num_rows:
            raise ValueError(
                f"Table '{name}' must have a key for each of its {num_rows} rows from "
                f"row {start_row} on, but it has {len(keys)} row keys."
            )
        pairs = np.arange(
            start_column // 2, (start_column + dim + 1) // 2, dtype=np.uint64
        )
        skipped = start_column % 2
        table_word = _table_word(self.seed, name)

        def values_of(rows: slice) -> npt.NDArray[np.float32]:
            words = _words(table_word, row_words[rows], pairs)
            return _values(words, init.name, scale)[:, skipped : skipped + dim]

        _write(out, values_of, words_a_row=max(len(pairs), 1))
        padding = padding_row(table)
        if padding is not None and start_row <= padding < start_row + num_rows:
            out[padding - start_row].zero_()


def _write(
    out: torch.Tensor,
    values_of: Callable[[slice], npt.NDArray[np.float32]],
    *,
    words_a_row: int,
) -> None:
    """Fill ``out`` some rows at a time; large tables in memory by several threads."""
    in_memory = out.device.type == "cpu" and out.dtype is torch.float32
    is_large = len(out) * words_a_row >= _LARGE_WORDS
    threads = torch.get_num_threads() if in_memory and is_large else 1
    words = _WORDS_PER_CHUNK if threads == 1 else _WORDS_PER_THREADS_CHUNK
    chunk = max(1, words // words_a_row)
    # torch would bring threads of its own to each of these.
    place = out.detach().numpy() if in_memory else None

    def write(rows: slice) -> None:
        if place is not None:
            place[rows] = values_of(rows)
        else:
            out[rows].copy_(torch.from_numpy(values_of(rows)))

    parts = [slice(first, first + chunk) for first in range(0, len(out), chunk)]
    if threads == 1:
        for part in parts:
            write(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(write, parts):
            pass


def vocabulary_of(table: TableConfig) -> str:
    """Return the data's table whose values the rows of ``table`` stand for."""
    return getattr(table, "vocabulary", "") or table_name(table.name)


def _table_word(seed: int, table: str) -> Words:
    digest = hashlib.blake2b(f"{seed}\n{table}".encode(), digest_size=8).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _words(table_word: Words, row_keys: Words, pairs: Words) -> Words:
    """Return one 64-bit word a row and pair of columns, [rows, pairs].

    Each row is a SplitMix64 stream (Steele, Lea and Flood 2014) that starts at a mix
    of its key; the table's word is mixed in between, so that tables differ everywhere.
    """
    starts = _mix(_mix(row_keys.astype(np.uint64) + _GOLDEN) ^ table_word)
    return _mix(starts[:, None] + (pairs + np.uint64(1))[None, :] * _GOLDEN)


def _mix(words: Words) -> Words:
    """Scramble 64-bit words in place by SplitMix64's finalizer, a bijection."""
    scratch = words >> np.uint64(30)
    words ^= scratch
    words *= _FACTOR_1
    np.right_shift(words, np.uint64(27), out=scratch)
    words ^= scratch
    words *= _FACTOR_2
    np.right_shift(words, np.uint64(31), out=scratch)
    words ^= scratch
    return words


def _values(words: Words, name: InitName, scale: float) -> npt.NDArray[np.float32]:
    """Return two float32 values a word, [rows, 2 * pairs]."""
    match name:
        case InitName.uniform:
            return _uniform(words, scale)
        case InitName.normal:
            return _normal(words, scale)
        case InitName.constant:
            shape = (words.shape[0], 2 * words.shape[1])
            return np.full(shape, scale, dtype=np.float32)


def _uniform(words: Words, scale: float) -> npt.NDArray[np.float32]:
    # 24 bits are a float32's precision: every value of [-1, 1) below is exact. The
    # words' halves are read as they lie in memory, low half first on every platform.
    halves = words.astype("<u8", copy=False).view("<u4") >> np.uint32(8)
    values: npt.NDArray[np.float32] = halves.astype(np.float32)
    values *= np.float32(2.0**-23)
    values -= np.float32(1.0)
    values *= np.float32(scale)
    return values


def _normal(words: Words, scale: float) -> npt.NDArray[np.float32]:
    """Box and Muller 1958, in float64; the radius needs a draw in (0, 1]."""
    high = (words >> np.uint64(32)).astype(np.float64)
    low = (words & _LOW_HALF).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((high + 1.0) * 2.0**-32)) * scale
    angle = low * (2.0 * math.pi * 2.0**-32)
    values = np.empty((words.shape[0], words.shape[1] * 2), dtype=np.float32)
    values[:, 0::2] = radius * np.cos(angle)
    values[:, 1::2] = radius * np.sin(angle)
    return values
