"""Is one model's AUC above another's on the same rows, or is it chance?

Shape suffixes: S = seeds of one model, R = rows, P = clicks, N = the other rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.rows import check_rows

_NORMAL_97_5 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A difference of means over seeds, and what it varies by."""

    difference: float
    row_error: float
    """Standard error over other test rows of the same kind."""
    seed_error: float
    """Standard error over other seeds; 0 where each model has one."""

    @property
    def interval(self) -> tuple[float, float]:
        """The normal 95 % interval that carries both errors."""
        half = _NORMAL_97_5 * math.hypot(self.row_error, self.seed_error)
        return self.difference - half, self.difference + half


def compare_auc(
    labels: np.ndarray,
    candidate: Sequence[np.ndarray],
    baseline: Sequence[np.ndarray],
) -> PairedDifference:
    """Return the mean AUC of the candidate's seeds less that of the baseline's.

    The row error is DeLong, DeLong and Clarke-Pearson's (1988): an AUC is the mean over
    clicks of the share of other rows below them, and as much the mean over the others
    of the share of clicks above them. A row's share is averaged over a model's seeds,
    and the two models' shares are subtracted row by row, so that what is hard for both
    cancels; the variance of these differences over clicks and over the others, each by
    its number, adds up to that of the difference. It holds for rows that are drawn
    independently. The seed error is that of the means of the seeds' own AUCs.

    Args:
        labels: [R], 0 or 1.
        candidate: S scores of every row, [R] each, float32 or float64.
        baseline: The same of the other model, with as many seeds or not.

    Raises:
        UndefinedMetricError: No rows, one class, or a NaN score.
        ValueError: A model has no scores, or they are not one a row.
    """
    mine, theirs = _Shares.of(labels, candidate), _Shares.of(labels, baseline)
    of_clicks = mine.of_clicks - theirs.of_clicks
    of_others = mine.of_others - theirs.of_others
    variance = _variance_of_mean(of_clicks) + _variance_of_mean(of_others)
    return PairedDifference(
        difference=float(of_clicks.mean()),
        row_error=math.sqrt(variance),
        seed_error=math.sqrt(
            _variance_of_mean(mine.aucs) + _variance_of_mean(theirs.aucs)
        ),
    )


@dataclass(frozen=True, slots=True)
class _Shares:
    """A model's place in every pair of rows, averaged over its seeds."""

    of_clicks: np.ndarray
    """float64 [P], share of other rows that score below, ties one half."""
    of_others: np.ndarray
    """float64 [N], share of clicks that score above, ties one half."""
    aucs: np.ndarray
    """float64 [S]"""

    @classmethod
    def of(cls, labels: np.ndarray, seeds: Sequence[np.ndarray]) -> _Shares:
        if not seeds:
            raise ValueError("A model must have the scores of at least one seed.")
        found = [_shares(labels, scores) for scores in seeds]
        return cls(
            np.mean([clicks for clicks, _ in found], axis=0),
            np.mean([others for _, others in found], axis=0),
            np.array([clicks.mean() for clicks, _ in found]),
        )


def _shares(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = check_rows(labels, scores, None)
    rows.require_both_classes()
    clicks, others = rows.scores[rows.labels], rows.scores[~rows.labels]
    return _mean_place(clicks, among=others), 1.0 - _mean_place(others, among=clicks)


def _mean_place(scores: np.ndarray, *, among: np.ndarray) -> np.ndarray:
    """Return the share of ``among`` below each score, equal ones counting one half."""
    ordered = np.sort(among)
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    return (below + not_above) / (2.0 * len(among))


def _variance_of_mean(values: np.ndarray) -> float:
    if len(values) < 2:
        return 0.0
    return float(values.var(ddof=1)) / len(values)
