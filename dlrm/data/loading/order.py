"""The order of rows in an epoch: a pure function of (seed, epoch, position)."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

BLOCK_ROWS = 65_536
MIN_BLOCKS = 16
"""Blocks that fit the buffer at least; small buffers get smaller blocks."""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """One epoch's blocks in their order, and the position where each group starts."""

    order: np.ndarray
    group_starts: np.ndarray


class RowOrder:
    """Epoch e visits every row once, in an order drawn from Philox keyed by (seed, e).

    Up to ``max_rows_in_memory`` rows are one exact permutation. Beyond, blocks of
    consecutive rows are permuted, and each run of blocks that fits in memory, a group,
    is permuted row by row. Any position is reached without the groups before it.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        seed: int,
        shuffle: bool,
        max_rows_in_memory: int = 200_000_000,
    ) -> None:
        """Draw nothing yet; permutations are made when an epoch is first asked for."""
        if shuffle and max_rows_in_memory < 1:
            raise ValueError(
                f"max_rows_in_memory must be >= 1, not {max_rows_in_memory}."
            )
        self.num_rows = num_rows
        self.seed = seed
        self.shuffle = shuffle
        self.exact = num_rows <= max_rows_in_memory
        self.block_rows = max(1, min(BLOCK_ROWS, max_rows_in_memory // MIN_BLOCKS))
        self.blocks_per_group = max(1, max_rows_in_memory // self.block_rows)
        self._lock = threading.Lock()
        self._blocks: tuple[int, _Blocks] | None = None
        self._drawn: tuple[tuple[int, int], np.ndarray] | None = None

    def rows(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """Return int64 row numbers at positions start to stop - 1 of an epoch.

        Raises:
            IndexError: The range is not within the epoch.
        """
        if not 0 <= start <= stop <= self.num_rows:
            raise IndexError(
                f"Positions must lie in [0, {self.num_rows}], but they are "
                f"[{start}, {stop})."
            )
        if not self.shuffle:
            return np.arange(start, stop, dtype=np.int64)
        with self._lock:
            if self.exact:
                return self._permutation(epoch)[start:stop].astype(np.int64)
            return self._block_rows(epoch, start, stop)

    def describe(self) -> str:
        """Return one line for the log."""
        count = f"{self.num_rows:,} rows"
        if not self.shuffle:
            return f"{count} in file order"
        if self.exact:
            return f"{count}, shuffled exactly each epoch (seed {self.seed})"
        return (
            f"{count}, shuffled each epoch in blocks of {self.block_rows:,} rows "
            f"through a buffer of {self.blocks_per_group:,} blocks (seed {self.seed})"
        )

    def _permutation(self, epoch: int) -> np.ndarray:
        key = (epoch, -1)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = None  # frees the last epoch before the next is drawn
            # 32 bits halve the longest array a run holds beside its tables.
            dtype = np.uint32 if self.num_rows < 2**32 else np.int64
            permutation = np.arange(self.num_rows, dtype=dtype)
            self._generator(epoch, stream=0).shuffle(permutation)
            self._drawn = (key, permutation)
        return self._drawn[1]

    def _block_rows(self, epoch: int, start: int, stop: int) -> np.ndarray:
        if self._blocks is None or self._blocks[0] != epoch:
            self._blocks = (epoch, self._draw_blocks(epoch))
        group_starts = self._blocks[1].group_starts
        first = int(np.searchsorted(group_starts, start, side="right")) - 1
        parts = [np.zeros(0, dtype=np.int64)]
        while start < stop:
            base, end = int(group_starts[first]), int(group_starts[first + 1])
            parts.append(
                self._group(epoch, first)[start - base : min(stop, end) - base]
            )
            start, first = min(stop, end), first + 1
        return np.concatenate(parts)

    def _draw_blocks(self, epoch: int) -> _Blocks:
        num_blocks = -(-self.num_rows // self.block_rows)
        order = self._generator(epoch, stream=0).permutation(num_blocks)
        ends = np.minimum((order + 1) * self.block_rows, self.num_rows)
        lengths = ends - order * self.block_rows
        group_lengths = np.add.reduceat(
            lengths, np.arange(0, num_blocks, self.blocks_per_group)
        )
        return _Blocks(order, np.concatenate([[0], np.cumsum(group_lengths)]))

    def _group(self, epoch: int, group: int) -> np.ndarray:
        key = (epoch, group)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = None
            assert self._blocks is not None
            first = group * self.blocks_per_group
            blocks = self._blocks[1].order[first : first + self.blocks_per_group]
            starts = (blocks * self.block_rows).tolist()
            rows = np.concatenate(
                [np.arange(s, min(s + self.block_rows, self.num_rows)) for s in starts]
            )
            self._generator(epoch, stream=group + 1).shuffle(rows)
            self._drawn = (key, rows)
        return self._drawn[1]

    def _generator(self, epoch: int, *, stream: int) -> np.random.Generator:
        # The counter's last word sets the streams of one key too far apart to meet.
        key = np.array([self.seed, epoch], dtype=np.uint64)
        counter = np.array([0, 0, 0, stream], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))
