"""Does the model put clicks above the rest? Metrics that only see the order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.packed import packed_auc, sort_packed
from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError
from dlrm.metrics.weighted import sort_weighted, weighted_auc


def auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the chance that a click scores above a non-click, a tie counting one half.

    That is the Mann-Whitney statistic over the number of pairs, and the area under the
    ROC curve drawn with straight lines across ties. One half is the only value of a tie
    under which a constant model scores 0.5 in every order of rows. A pair weighs the
    product of its rows' weights. Exact: every distinct score is a threshold, there are
    no bins.

    Raises:
        UndefinedMetricError: No rows, one class, or a NaN score.
    """
    rows = check_rows(labels, scores, weights)
    rows.require_both_classes()
    if rows.weights is None:
        return packed_auc(sort_packed(rows.labels, rows.scores))
    return weighted_auc(sort_weighted(rows.labels, rows.scores, rows.weights))


def auc_of_table(table: ScoreTable) -> float:
    """Return the AUC of tabulated rows; see ``auc``."""
    positives, negatives = _class_weights(table)
    below = np.cumsum(table.negatives) - table.negatives
    wins = float(np.sum(table.positives * (below + 0.5 * table.negatives)))
    return min(wins / (positives * negatives), 1.0)


def pr_auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return average precision: the mean over clicks of the precision at their score.

    The sum over thresholds of (recall gained) x (precision), each distinct score one
    threshold. Trapezoids between the points would be too optimistic, because precision
    is not linear in recall (Davis and Goadrich 2006); this sum assumes nothing between
    them. A constant model scores the click rate. With one class there is nothing to
    retrieve or nothing to confuse it with, so there is no value.

    Raises:
        UndefinedMetricError: No rows, one class, or a NaN score.
    """
    return pr_auc_of_table(tabulate_scores(check_rows(labels, scores, weights)))


def pr_auc_of_table(table: ScoreTable) -> float:
    """Return the average precision of tabulated rows; see ``pr_auc``."""
    curve = pr_curve_of_table(table)
    gained = table.positives[::-1]
    return min(float(np.sum(gained * curve.precision) / gained.sum()), 1.0)


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points from (0, 0) to (1, 1), thresholds falling; float64 [K + 1] each.

    At point k all rows with a score of at least ``thresholds[k]`` are called clicks;
    the first threshold is infinite.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


def roc_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> RocCurve:
    """Return one point per distinct score; the area under them is ``auc``.

    Raises:
        UndefinedMetricError: No rows, one class, or a NaN score.
    """
    return roc_curve_of_table(tabulate_scores(check_rows(labels, scores, weights)))


def roc_curve_of_table(table: ScoreTable) -> RocCurve:
    """Return the ROC curve of tabulated rows; see ``roc_curve``."""
    _class_weights(table)
    false_positives = np.cumsum(np.append(0.0, table.negatives[::-1]))
    true_positives = np.cumsum(np.append(0.0, table.positives[::-1]))
    return RocCurve(
        false_positives / false_positives[-1],
        true_positives / true_positives[-1],
        np.append(np.inf, table.scores[::-1]),
    )


@dataclass(frozen=True, slots=True)
class PrCurve:
    """One point per distinct score, thresholds falling, recall rising; float64 [K].

    At point k all rows with a score of at least ``thresholds[k]`` are called clicks.
    """

    recall: np.ndarray
    precision: np.ndarray
    thresholds: np.ndarray


def pr_curve_of_table(table: ScoreTable) -> PrCurve:
    """Return precision against recall; ``pr_auc`` sums precision over recall gained.

    Raises:
        UndefinedMetricError: One class.
    """
    positives, _ = _class_weights(table)
    found = np.cumsum(table.positives[::-1])
    shown = np.cumsum(table.positives[::-1] + table.negatives[::-1])
    return PrCurve(found / positives, found / shown, table.scores[::-1])


def _class_weights(table: ScoreTable) -> tuple[float, float]:
    positives, negatives = float(table.positives.sum()), float(table.negatives.sum())
    if positives <= 0 or negatives <= 0:
        raise UndefinedMetricError("one class")
    return positives, negatives
