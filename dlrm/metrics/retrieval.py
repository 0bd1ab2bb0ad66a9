"""Metrics of one right document among many. Shape suffix: R = rows.

A row says where its own document stands: ``num_better`` [R], the other documents with a
higher score, and ``num_tied`` [R], those with its score, itself included. Documents of
equal score stand in no order, so every metric is the mean over all orders of them: a
model that gives one score to all must do no better than a draw of lots, whatever order
the documents are kept in. A row whose document is none of the catalogue's has
``num_better`` -1: no answer could be right, and it counts as a miss.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlrm.metrics.undefined import UndefinedMetricError


def retrieval_recall_at_k(
    num_better: np.ndarray, num_tied: np.ndarray, weights: np.ndarray, k: int
) -> float:
    """Return the share of rows whose document is among the first k.

    Of t tied documents behind g better ones, (k - g) / t of the orders show it.

    Raises:
        UndefinedMetricError: No row has weight.
    """
    shown = np.clip((k - num_better) / np.maximum(num_tied, 1), 0.0, 1.0)
    return _mean(np.where(num_better < 0, 0.0, shown), weights)


def mean_reciprocal_rank(
    num_better: np.ndarray, num_tied: np.ndarray, weights: np.ndarray
) -> float:
    """Return the mean of 1 / rank, over all documents and not the first k alone.

    Raises:
        UndefinedMetricError: No row has weight.
    """
    return _mean(_mean_gain(num_better, num_tied, lambda ranks: 1 / ranks), weights)


def retrieval_ndcg_at_k(
    num_better: np.ndarray, num_tied: np.ndarray, weights: np.ndarray, k: int
) -> float:
    """Return the mean of 1 / log2(1 + rank) where the rank is at most k, else 0.

    With one right document the ideal list has gain 1, so this is the normalised one.

    Raises:
        UndefinedMetricError: No row has weight.
    """

    def gain(ranks: np.ndarray) -> np.ndarray:
        return np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)

    return _mean(_mean_gain(num_better, num_tied, gain), weights)


def expected_rank(num_better: np.ndarray, num_tied: np.ndarray) -> np.ndarray:
    """Return each row's mean rank over all orders of ties, [R]; NaN for a miss."""
    return np.where(num_better < 0, np.nan, num_better + (num_tied + 1) / 2)


def _mean_gain(
    num_better: np.ndarray,
    num_tied: np.ndarray,
    gain: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the mean gain of ranks g + 1 to g + t of each row, [R]."""
    first = np.maximum(num_better, 0).astype(np.int64)
    last = first + np.maximum(num_tied, 1).astype(np.int64)
    ranks = np.arange(1, int(last.max(initial=0)) + 1, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(gain(ranks))])
    gains = (sums[last] - sums[first]) / (last - first)
    # A difference of sums leaves a rounding error that a single rank has not.
    alone = last - first == 1
    gains[alone] = gain(last[alone].astype(np.float64))
    return np.where(num_better < 0, 0.0, gains)


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    counted = weights.astype(np.float64)
    total = float(counted.sum())
    if total == 0:
        raise UndefinedMetricError("no row is a click")
    return float(np.sum(counted * values) / total)
