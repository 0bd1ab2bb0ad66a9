"""Deal rows to train, valid and test: 0, 1 and 2 as int8 codes, in ``SPLITS`` order."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from dlrm.config.data import SPLITS, DataConfig, Split
from dlrm.config.errors import DataError
from dlrm.data.transforms.hashing import hash_texts, splitmix64

TRAIN, VALID, TEST = range(3)
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
    num_rows = times.size
    ordered = np.sort(times)
    ends = np.rint(np.cumsum(fractions[:2]) * num_rows).astype(np.int64)
    last_train, last_valid = ordered[np.clip(ends, 1, num_rows) - 1]
    codes = np.full(num_rows, TEST, dtype=np.int8)
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


@dataclass(slots=True)
class SplitKeys:
    """Gathers what the split goes by, chunk after chunk: at most 17 bytes a row."""

    data: DataConfig
    num_rows: int = 0
    _codes: list[np.ndarray] = field(default_factory=list)
    _times: list[np.ndarray] = field(default_factory=list)
    _groups: list[np.ndarray] = field(default_factory=list)

    def add(self, typed: pa.Table, source_split: str | None) -> None:
        """Take in the next rows; ``source_split`` is what the source says of them.

        Raises:
            DataError: The split goes by the source, but it says nothing.
        """
        data = self.data
        size = typed.num_rows
        match data.split:
            case Split.source | Split.files:
                code = _code_of(source_split, data)
                self._codes.append(np.full(size, code, dtype=np.int8))
            case Split.column:
                self._codes.append(typed["split"].to_numpy())
            case Split.random:
                self._codes.append(
                    random_split(
                        size, data.split_fractions, data.split_seed, self.num_rows
                    )
                )
            case Split.time | Split.leave_last:
                if "time" in typed.column_names:
                    self._times.append(typed["time"].to_numpy())
                if "group" in typed.column_names:
                    self._groups.append(_group_keys(typed["group"].combine_chunks()))
            case Split.shuffle_2019:
                pass
        self.num_rows += size

    def assign(self) -> np.ndarray:
        """Return the code of every row, int8 [num_rows].

        Raises:
            DataError: Times are missing, or a split that must have rows has none.
        """
        data = self.data
        if self.num_rows == 0:
            raise DataError(
                f"data.source must hold at least one sound row, but "
                f"{data.source or 'what was given'} holds none. Check the data."
            )
        times = np.concatenate(self._times) if self._times else None
        self._refuse_missing(times)
        match data.split:
            case Split.time:
                assert times is not None, "DataConfig requires time_column"
                codes = time_split(times, data.split_fractions)
            case Split.leave_last:
                groups = np.concatenate(self._groups)
                codes = leave_last_split(groups, times, data.leave_last)
            case Split.shuffle_2019:
                codes = shuffle_2019_split(self.num_rows)
            case _:
                codes = np.concatenate(self._codes)
        self._refuse_empty(codes)
        return codes

    def _refuse_missing(self, times: np.ndarray | None) -> None:
        num_missing = 0 if times is None else int(np.isnan(times).sum())
        if num_missing:
            split, column = self.data.split.value, self.data.time_column
            raise DataError(
                f"data.split={split} needs a time in every row, but column {column!r} "
                f"(data.time_column) lacks it in {num_missing:,} of "
                f"{self.num_rows:,} rows. Choose another data.split, such as random."
            )

    def _refuse_empty(self, codes: np.ndarray) -> None:
        sizes = np.bincount(codes, minlength=len(SPLITS))
        by_share = self.data.split in (Split.random, Split.time)
        for name, size, share in zip(
            SPLITS, sizes, self.data.split_fractions, strict=True
        ):
            if size == 0 and (name == "train" or (by_share and share > 0)):
                counts = dict(zip(SPLITS, sizes.tolist(), strict=True))
                settings = ("data.split", *_SIZED_BY.get(self.data.split, ()))
                raise DataError(
                    f"The {name} split must have at least one row, but "
                    f"data.split={self.data.split.value} deals {self.num_rows:,} rows "
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
