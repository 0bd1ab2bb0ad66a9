"""Rows gathered by score: all that ranking and binning metrics need to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.blocks import cut_between_ties, for_each, tie_starts
from dlrm.metrics.packed import PackedScores, sort_packed
from dlrm.metrics.rows import Rows
from dlrm.metrics.weighted import WeightedScores, sort_weighted


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """K distinct scores, ascending, with the weight of either class at each (float64).

    Rows that share a score cannot be told apart by the model. Adding them up first
    makes every metric computed from this table independent of the order of rows, and
    counts ties once, in one place. A table is a mergeable state: ``merge_tables``.
    """

    scores: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    squares: np.ndarray | None = None
    """Sum of the rows' squared weights at each score; None where all weigh 1, as it is
    then their number. It says how many equal rows the weighted ones are worth."""

    def sums_of_squares(self) -> np.ndarray:
        """Return ``squares``, where all rows weigh 1 too."""
        return self.positives + self.negatives if self.squares is None else self.squares


def tabulate_scores(rows: Rows) -> ScoreTable:
    """Sort rows and add up the weights of equal scores."""
    if rows.weights is None:
        return _tabulate_packed(sort_packed(rows.labels, rows.scores))
    return _tabulate_weighted(sort_weighted(rows.labels, rows.scores, rows.weights))


def merge_tables(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Return the table of all tables' rows together; at least one is needed.

    Their weights must be of one scale, which ``check_rows`` does not keep where all of
    a part's rows weigh the same: give ``Rows`` their weights as they are.
    """
    weighted = any(table.squares is not None for table in tables)
    return _add_up(
        np.concatenate([table.scores for table in tables]),
        np.concatenate([table.positives for table in tables]),
        np.concatenate([table.negatives for table in tables]),
        np.concatenate([table.sums_of_squares() for table in tables])
        if weighted
        else None,
    )


def _tabulate_packed(packed: PackedScores) -> ScoreTable:
    def part(rows: slice) -> tuple[np.ndarray, ...]:
        keys = packed.keys[rows]
        codes = keys >> 1
        starts = tie_starts(codes)
        positives = np.add.reduceat(keys & 1, starts, dtype=np.int64)
        counts = np.diff(starts, append=len(keys))
        scores = packed.order.decode(codes[starts])
        return _as_columns(scores, positives, counts - positives)

    return ScoreTable(*_columns(for_each(part, packed.parts())))


def _tabulate_weighted(found: WeightedScores) -> ScoreTable:
    def part(rows: slice) -> tuple[np.ndarray, ...]:
        codes = found.codes[rows]
        starts = tie_starts(codes)
        scores = found.order.decode(codes[starts])
        squares = np.add.reduceat(found.signed[rows] ** 2, starts)
        return _as_columns(scores, *found.by_class(rows, starts), squares)

    return ScoreTable(*_columns(for_each(part, cut_between_ties(found.codes))))


def _as_columns(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(column.astype(np.float64, copy=False) for column in columns)


def _columns(parts: list[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _add_up(
    scores: np.ndarray,
    positives: np.ndarray,
    negatives: np.ndarray,
    squares: np.ndarray | None,
) -> ScoreTable:
    order = np.argsort(scores)
    scores = scores[order]
    starts = tie_starts(scores)
    return ScoreTable(
        scores[starts],
        np.add.reduceat(positives[order], starts),
        np.add.reduceat(negatives[order], starts),
        None if squares is None else np.add.reduceat(squares[order], starts),
    )
