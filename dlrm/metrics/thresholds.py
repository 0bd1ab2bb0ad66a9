"""What if the model had to say yes or no?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError


@dataclass(frozen=True, slots=True)
class Confusion:
    """Weights of rows by what they were called and what they were.

    Counts where all rows weigh 1; fractions of them where a quota cuts a tie. The
    confusions of two parts at one threshold add up to that of the whole.
    """

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float

    def __add__(self, other: Confusion) -> Confusion:
        """Return the confusion of both parts' rows, called by one threshold."""
        return Confusion(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.true_negatives + other.true_negatives,
        )

    @property
    def clicks(self) -> float:
        """Return the weight of rows with label 1."""
        return self.true_positives + self.false_negatives

    @property
    def called(self) -> float:
        """Return the weight of rows that are called clicks."""
        return self.true_positives + self.false_positives

    def precision(self) -> float:
        """Return the share of clicks among the rows that are called clicks.

        Raises:
            UndefinedMetricError: No row is called a click.
        """
        if self.called <= 0:
            raise UndefinedMetricError("no row is called a click")
        return self.true_positives / self.called

    def recall(self) -> float:
        """Return the share of clicks that are called clicks.

        Raises:
            UndefinedMetricError: No clicks.
        """
        if self.clicks <= 0:
            raise UndefinedMetricError("no clicks")
        return self.true_positives / self.clicks

    def f1(self) -> float:
        """Return the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).

        In this form it is 0, and not undefined, where there are clicks but no row is
        called one: such a model is as poor as one that calls the wrong rows.

        Raises:
            UndefinedMetricError: No clicks.
        """
        if self.clicks <= 0:
            raise UndefinedMetricError("no clicks")
        return 2 * self.true_positives / (self.called + self.clicks)

    def accuracy(self) -> float:
        """Return the share of rows that are called rightly; see ``accuracy``.

        Raises:
            UndefinedMetricError: No rows.
        """
        wrong = self.false_positives + self.false_negatives
        right = self.true_positives + self.true_negatives
        if wrong + right <= 0:
            raise UndefinedMetricError("no rows")
        return right / (wrong + right)


def confusion_at_threshold(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
) -> Confusion:
    """Call rows clicks whose probability is at least ``threshold``.

    The threshold is a probability, and compared as a logit: that keeps apart what a
    probability rounds to 1.

    Raises:
        ValueError: The threshold is outside [0, 1].
        UndefinedMetricError: No rows, or a NaN logit.
    """
    table = tabulate_scores(check_rows(labels, logits, weights))
    return threshold_confusion_of_table(table, threshold=threshold)


def threshold_confusion_of_table(table: ScoreTable, *, threshold: float) -> Confusion:
    """Return the confusion of rows tabulated by logit; ``confusion_at_threshold``."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"A threshold must be in [0, 1], but is {threshold}.")
    first = 0
    if threshold > 0:
        rest = 1 - threshold
        logit = math.log(threshold / rest) if rest > 0 else math.inf
        first = int(np.searchsorted(table.scores, logit))
    return Confusion(
        float(table.positives[first:].sum()),
        float(table.negatives[first:].sum()),
        float(table.positives[:first].sum()),
        float(table.negatives[:first].sum()),
    )


def confusion_at_quota(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    quota: float,
) -> Confusion:
    """Call the share ``quota`` of rows clicks, those of the highest scores.

    For a budget that is set in rows, whatever the probabilities say. The share is of
    weight. Of rows that tie at the cut each is called in the part that there is room
    for: the mean over all orders of them, so that the order of rows has no say.

    Raises:
        ValueError: The quota is outside [0, 1].
        UndefinedMetricError: No rows, or a NaN score.
    """
    table = tabulate_scores(check_rows(labels, scores, weights))
    return quota_confusion_of_table(table, quota=quota)


def quota_confusion_of_table(table: ScoreTable, *, quota: float) -> Confusion:
    """Return the confusion of tabulated rows; see ``confusion_at_quota``."""
    if not 0 <= quota <= 1:
        raise ValueError(f"A quota must be in [0, 1], a share, but is {quota}.")
    weights = (table.positives + table.negatives)[::-1]
    ends = np.cumsum(weights)
    room = quota * ends[-1]
    whole = int(np.searchsorted(ends, room, side="right"))
    called = [float(side[::-1][:whole].sum()) for side in _sides(table)]
    if whole < len(weights) and weights[whole] > 0:
        before = float(ends[whole - 1]) if whole else 0.0
        part = min((room - before) / float(weights[whole]), 1.0)
        called = [
            found + part * float(side[::-1][whole])
            for found, side in zip(called, _sides(table), strict=True)
        ]
    clicks, others = (float(side.sum()) for side in _sides(table))
    missed, spared = max(clicks - called[0], 0.0), max(others - called[1], 0.0)
    return Confusion(called[0], called[1], missed, spared)


def _sides(table: ScoreTable) -> tuple[np.ndarray, np.ndarray]:
    return table.positives, table.negatives


def accuracy(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the weighted share of rows that a threshold of 0.5 calls rightly.

    A probability of exactly 0.5 (logit 0) is called a click. At low click rates nearly
    every model, a constant included, has one minus the click rate: it is here because
    it is asked for, not because it tells models apart.

    Raises:
        UndefinedMetricError: No rows, or a NaN logit.
    """
    rows = check_rows(labels, logits, weights)
    right = (rows.scores >= 0) == rows.labels
    if rows.weights is None:
        return int(np.count_nonzero(right)) / rows.total_weight
    return float(rows.weights[right].sum()) / rows.total_weight
