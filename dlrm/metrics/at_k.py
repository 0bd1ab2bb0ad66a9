"""Metrics of lists of classes, best first. Shape suffixes: R = rows, K = list's length.

All arrays are of the same R rows: ``hits`` [R, K] says which listed classes a row
really has, ``num_labels`` [R] how many classes it has, known to the model or not.
"""

from __future__ import annotations

import numpy as np

from dlrm.metrics.undefined import UndefinedMetricError


def precision_at_k(
    hits: np.ndarray, num_labels: np.ndarray, weights: np.ndarray, k: int
) -> float:
    """Return the share of the first k listed classes that are right, a mean over rows.

    Every row counts by its weight however many classes it has, as a user who is shown k
    answers sees k answers; so a row of one class has at most 1 / k. Rows without any
    class are left out: nothing said of them could be right. Where fewer than k classes
    exist, k is their number.

    Raises:
        UndefinedMetricError: No row with weight has a class.
    """
    counted = _weights_of_labelled(num_labels, weights)
    right = hits[:, :k].sum(axis=1, dtype=np.float64)
    return float(np.sum(counted * right) / (np.sum(counted) * hits[:, :k].shape[1]))


def recall_at_k(
    hits: np.ndarray, num_labels: np.ndarray, weights: np.ndarray, k: int
) -> float:
    """Return the share of all rows' classes that are among the first k of their row.

    Every class of every row counts once, by the row's weight, as in fastText's own
    report; a mean of the rows' own recalls would let rows of one class outweigh those
    of several. Classes that training never saw count: a model cannot name them, and a
    reader must see what that costs.

    Raises:
        UndefinedMetricError: No row with weight has a class.
    """
    counted = _weights_of_labelled(num_labels, weights)
    right = hits[:, :k].sum(axis=1, dtype=np.float64)
    return float(np.sum(counted * right) / np.sum(counted * num_labels))


def mean_loss(losses: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted mean of the rows' losses; rows without one have NaN.

    A row whose classes training never saw has no finite log loss under any model, so
    it is left out here and counts as a miss above.

    Raises:
        UndefinedMetricError: No row with weight has a loss.
    """
    counted = np.where(np.isnan(losses), 0.0, weights.astype(np.float64))
    total = float(np.sum(counted))
    if total == 0:
        raise UndefinedMetricError("no row has a class that training saw")
    return float(np.sum(counted * np.nan_to_num(losses)) / total)


def _weights_of_labelled(num_labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    counted = np.where(num_labels > 0, weights.astype(np.float64), 0.0)
    if counted.sum() == 0:
        raise UndefinedMetricError("no row has a class")
    return counted
