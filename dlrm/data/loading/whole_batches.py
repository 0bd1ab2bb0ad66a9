"""Whole batches dealt to the ranks in turn: how rows are scored.

What a matrix product rounds to depends on how many rows it has. So ranks that score
take the very batches that one process makes, and each row's logit is the same number at
any world size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import Collator
from dlrm.data.loading.loader import made_ahead
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.storage.split_rows import SplitRows


class WholeBatches:
    """Rows in file order, ``batch_size`` at a time, a last batch with fewer.

    Rank r of W takes the r-th of each W batches. All ranks yield equally many batches,
    and the k-th ones have equally many rows, since ranks exchange bags step by step:
    a rank without one of the k-th takes padding rows alone, and a last batch with
    fewer rows is a step of its own.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Look through the schema; nothing is read."""
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), but it is {rank}.")
        self._collator = Collator(schema)
        self._batch_size = batch_size
        self._rank, self._world_size = rank, world_size

    def padding(self, num_rows: int) -> Batch:
        """Return a batch of padding rows alone."""
        return self._collator.padding(num_rows)

    def of_split(
        self, rows: SplitRows, *, prefetch_batches: int = 4
    ) -> Iterator[Batch]:
        """Yield this rank's batches of a split; it reads no others."""
        made = self._deal(rows.num_rows, rows.slice)
        return made_ahead(made, prefetch_batches)

    def of_rows(self, rows: EncodedRows) -> Iterator[Batch]:
        """Yield this rank's batches of rows that every rank has, ids from 0."""
        bounds = self._bounds(len(rows))
        pieces = list(rows.pieces(bounds))

        def between(low: int, high: int) -> EncodedRows:
            if low == high:
                return next(rows.pieces([low, high]))
            return pieces[low // self._batch_size]

        return self._deal(len(rows), between)

    def _deal(
        self, num_rows: int, between: Callable[[int, int], EncodedRows]
    ) -> Iterator[Batch]:
        for turn in _turns(pairwise(self._bounds(num_rows)), self._world_size):
            low, high = turn[self._rank] if self._rank < len(turn) else (0, 0)
            size = turn[0][1] - turn[0][0]
            row_ids = np.arange(low, high)
            yield self._collator.collate(between(low, high), row_ids, batch_size=size)

    def _bounds(self, num_rows: int) -> list[int]:
        return [*range(0, num_rows, self._batch_size), num_rows]


def _turns(
    ranges: Iterable[tuple[int, int]], world_size: int
) -> Iterator[list[tuple[int, int]]]:
    """Yield runs of up to ``world_size`` neighbours of one size."""
    turn: list[tuple[int, int]] = []
    for low, high in ranges:
        if turn and (len(turn) == world_size or high - low != turn[0][1] - turn[0][0]):
            yield turn
            turn = []
        turn.append((low, high))
    if turn:
        yield turn
