"""Deal rows to train, valid and test: 0, 1 and 2 as int8 codes, in ``SPLITS`` order."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from dlrm.config.data import SPLITS, DataConfig, Split
from dlrm.config.durable import writing_to
from dlrm.config.errors import DataError
from dlrm.data.preparation.selection import value_of_rank
from dlrm.data.transforms.hashing import hash_texts, splitmix64

TRAIN, VALID, TEST = range(3)
_ROWS_AT_ONCE = 4_000_000
_SIZED_BY = {
    Split.random: ("data.split_fractions",),
    Split.time: ("data.split_fractions",),
    Split.leave_last: ("data.leave_last",),
    Split.files: ("data.files",),
    Split.column: ("data.split_column",),
}
"""The settings that say how many rows a split has."""


def random_split(
    num_rows: int, fractions: Sequence[float], seed: int, first_row: int = 0
) -> np.ndarray:
    """Deal each row by a hash of (seed, row number), so that no other row matters."""
    key = splitmix64(np.array([seed % 2**64], dtype=np.uint64))
    rows = np.arange(first_row, first_row + num_rows, dtype=np.uint64)
    # 53 bits are what a float64 in [0, 1) holds.
    uniform = (splitmix64(rows ^ key) >> np.uint64(11)) * 2.0**-53
    shares = np.array([fractions[0], fractions[0] + fractions[1]])
    if fractions[2] == 0:
        shares[1] = 1.0
    codes: np.ndarray = np.searchsorted(shares, uniform, side="right")
    return codes.astype(np.int8)


def time_split(times: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Train on the oldest rows and test on the newest; equal times stay together.

    A moment that a cut falls into goes to the older side.
    """
    return codes_by_time(times, time_cuts([times], times.size, fractions))


def time_cuts(
    times: Iterable[np.ndarray], num_rows: int, fractions: Sequence[float]
) -> tuple[float, float]:
    """Return the newest time that trains, and the newest that validates.

    ``times`` are looped over several times, and never all in memory.
    """
    ends = np.rint(np.cumsum(fractions[:2]) * num_rows).astype(np.int64)
    ranks = (np.clip(ends, 1, num_rows) - 1).tolist()
    return value_of_rank(times, ranks[0]), value_of_rank(times, ranks[1])


def codes_by_time(times: np.ndarray, cuts: tuple[float, float]) -> np.ndarray:
    """Return the code of each time under ``time_cuts``."""
    last_train, last_valid = cuts
    codes = np.full(times.size, TEST, dtype=np.int8)
    codes[times <= last_valid] = VALID
    codes[times <= last_train] = TRAIN
    return codes


def leave_last_split(
    groups: np.ndarray, times: np.ndarray | None, num_left: int
) -> np.ndarray:
    """Test on each group's newest ``num_left`` rows, validate on those before them.

    Later rows of the file count as newer where times are equal or there are none.
    """
    num_rows = groups.size
    # lexsort is stable: the last key is the first to sort by.
    order = np.lexsort((groups,) if times is None else (times, groups))
    sorted_groups = groups[order]
    is_last = np.ones(num_rows, dtype=bool)
    is_last[:-1] = sorted_groups[1:] != sorted_groups[:-1]
    ends = np.flatnonzero(is_last)
    sizes = np.diff(ends, prepend=-1)
    from_end = np.repeat(ends, sizes) - np.arange(num_rows)
    codes = np.empty(num_rows, dtype=np.int8)
    codes[order] = np.select(
        [from_end < num_left, from_end < 2 * num_left], [TEST, VALID], TRAIN
    )
    return codes


def shuffle_2019_split(num_rows: int) -> np.ndarray:
    """Shuffle as Python's ``random`` seeded with 2019 does, and cut 8:1:1."""
    order = array("q", range(num_rows))
    random.Random(2019).shuffle(order)
    first, second = num_rows * 8 // 10, num_rows * 8 // 10 + num_rows // 10
    codes = np.full(num_rows, TEST, dtype=np.int8)
    shuffled = np.array(order, dtype=np.int64)
    codes[shuffled[:first]] = TRAIN
    codes[shuffled[first:second]] = VALID
    return codes


class Dealt(Protocol):
    """Some consecutive rows with what a split may go by, column by column."""

    @property
    def num_rows(self) -> int:
        """How many they are."""
        ...

    @property
    def split(self) -> str | None:
        """What the source says of them."""
        ...

    def names(self) -> list[str]:
        """List the columns."""
        ...

    def column(self, name: str) -> pa.Array:
        """Read a column."""
        ...


def deal_rows(data: DataConfig, blocks: Sequence[Dealt], path: Path) -> np.ndarray:
    """Write every row's code to ``path``, int8; return how many rows a split has.

    Memory does not grow with rows, but for the 8 bytes and more a row of
    ``shuffle_2019``, which is one shuffle of all.

    Raises:
        DataError: Times are missing, or a split that must have rows has none.
    """
    num_rows = sum(block.num_rows for block in blocks)
    if num_rows == 0:
        raise DataError(
            f"data.source must hold at least one sound row, but "
            f"{data.source or 'what was given'} holds none. Check the data."
        )
    _refuse_missing(data, blocks, num_rows)
    if data.split is Split.leave_last:
        _leave_last_codes(data, blocks, path)
    else:
        deal = _dealer(data, blocks, num_rows)
        with writing_to(path), path.open("wb") as file:
            first_row = 0
            for block in blocks:
                file.write(deal(block, first_row).astype(np.int8).tobytes())
                first_row += block.num_rows
    sizes = np.zeros(len(SPLITS), dtype=np.int64)
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        codes = np.fromfile(path, np.int8, _ROWS_AT_ONCE, offset=start)
        sizes += np.bincount(codes, minlength=len(SPLITS))
    _refuse_empty(data, sizes)
    return sizes


def _dealer(
    data: DataConfig, blocks: Sequence[Dealt], num_rows: int
) -> Callable[[Dealt, int], np.ndarray]:
    """Return what deals one block, given the number of its first row."""
    match data.split:
        case Split.source | Split.files:
            return lambda block, _: np.full(block.num_rows, _code_of(block.split, data))
        case Split.column:
            return lambda block, _: block.column("split").to_numpy()
        case Split.time:
            cuts = time_cuts(_Times(blocks), num_rows, data.split_fractions)
            return lambda block, _: codes_by_time(block.column("time").to_numpy(), cuts)
        case Split.shuffle_2019:
            codes = shuffle_2019_split(num_rows)
            return lambda block, first: codes[first : first + block.num_rows]
        case _:
            return lambda block, first: random_split(
                block.num_rows, data.split_fractions, data.split_seed, first
            )


@dataclass(frozen=True, slots=True)
class _Times:
    """The blocks' times, read anew by each loop over them."""

    blocks: Sequence[Dealt]

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            if "time" in block.names():
                yield block.column("time").to_numpy()


def _leave_last_codes(data: DataConfig, blocks: Sequence[Dealt], path: Path) -> None:
    """Deal the groups part by part: all rows of a group are in one part."""
    num_rows = sum(block.num_rows for block in blocks)
    codes = np.memmap(path, np.int8, "w+", shape=(num_rows,))
    num_parts = -(-num_rows // _ROWS_AT_ONCE)
    for part in range(num_parts):
        rows, groups, times = [], [], []
        first_row = 0
        for block in blocks:
            keys = _group_keys(block.column("group"))
            own = np.flatnonzero(keys % np.uint64(num_parts) == part)
            rows.append(own + first_row)
            groups.append(keys[own])
            if "time" in block.names():
                times.append(block.column("time").to_numpy()[own])
            first_row += block.num_rows
        codes[np.concatenate(rows)] = leave_last_split(
            np.concatenate(groups),
            np.concatenate(times) if times else None,
            data.leave_last,
        )
    codes.flush()


def _refuse_missing(data: DataConfig, blocks: Sequence[Dealt], num_rows: int) -> None:
    if data.split not in (Split.time, Split.leave_last):
        return
    num_missing = sum(int(np.isnan(times).sum()) for times in _Times(blocks))
    if num_missing:
        split, column = data.split.value, data.time_column
        raise DataError(
            f"data.split={split} needs a time in every row, but column {column!r} "
            f"(data.time_column) lacks it in {num_missing:,} of "
            f"{num_rows:,} rows. Choose another data.split, such as random."
        )


def _refuse_empty(data: DataConfig, sizes: np.ndarray) -> None:
    by_share = data.split in (Split.random, Split.time)
    for name, size, share in zip(SPLITS, sizes, data.split_fractions, strict=True):
        if size == 0 and (name == "train" or (by_share and share > 0)):
            counts = dict(zip(SPLITS, sizes.tolist(), strict=True))
            settings = ("data.split", *_SIZED_BY.get(data.split, ()))
            raise DataError(
                f"The {name} split must have at least one row, but "
                f"data.split={data.split.value} deals {int(sizes.sum()):,} rows "
                f"as {counts}. Give more rows, or change "
                f"{' or '.join(settings)}."
            )


def _code_of(source_split: str | None, data: DataConfig) -> int:
    if source_split not in SPLITS:
        raise DataError(
            f"data.split={data.split.value} needs a source that says which rows are "
            f"for train, valid and test, but data.format={data.format.value} does not "
            f"say so here. Choose another data.split, such as random."
        )
    return SPLITS.index(source_split)


def _group_keys(groups: pa.DictionaryArray) -> np.ndarray:
    """Stand in for texts: 1e8 groups have two of one hash once in 3,700 logs."""
    hashes = hash_texts(groups.dictionary)
    keys: np.ndarray = hashes[groups.indices.to_numpy()]
    return keys
