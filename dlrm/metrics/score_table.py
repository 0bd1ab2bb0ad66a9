"""Rows gathered by score: all that ranking and binning metrics need to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.packed import sort_packed
from dlrm.metrics.rows import Rows


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """K distinct scores, ascending, with the weight of either class at each (float64).

    Rows that share a score cannot be told apart by the model. Adding them up first
    makes every metric computed from this table independent of the order of rows, and
    counts ties once, in one place.
    """

    scores: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def tabulate_scores(rows: Rows) -> ScoreTable:
    """Sort rows and add up the weights of equal scores."""
    if rows.weights is None and rows.scores.dtype == np.float32:
        return _tabulate_packed(rows)
    weights = np.ones(len(rows.labels)) if rows.weights is None else rows.weights
    clicks = np.where(rows.labels, weights, 0.0)
    return _add_up(rows.scores.astype(np.float64), clicks, weights - clicks)


def merge_tables(tables: Sequence[ScoreTable]) -> ScoreTable:
    """Return the table of all tables' rows together; at least one is needed."""
    return _add_up(
        np.concatenate([table.scores for table in tables]),
        np.concatenate([table.positives for table in tables]),
        np.concatenate([table.negatives for table in tables]),
    )


def _tabulate_packed(rows: Rows) -> ScoreTable:
    packed = sort_packed(rows.labels, rows.scores)
    keys = np.concatenate([packed.below_zero, packed.others])
    scores = packed.scores()
    starts = tie_starts(scores)
    positives = np.add.reduceat(keys & np.uint32(1), starts, dtype=np.int64)
    counts = np.diff(np.append(starts, len(keys)))
    return ScoreTable(
        scores[starts].astype(np.float64),
        positives.astype(np.float64),
        (counts - positives).astype(np.float64),
    )


def tie_starts(scores: np.ndarray) -> np.ndarray:
    """Return where in sorted ``scores``, at least one, a new value begins."""
    return np.concatenate([[0], np.flatnonzero(scores[1:] != scores[:-1]) + 1])


def _add_up(
    scores: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> ScoreTable:
    order = np.argsort(scores)
    scores = scores[order]
    starts = tie_starts(scores)
    return ScoreTable(
        scores[starts],
        np.add.reduceat(positives[order], starts),
        np.add.reduceat(negatives[order], starts),
    )
