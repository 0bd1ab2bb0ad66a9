"""The rows a metric is computed on, checked once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.undefined import UndefinedMetricError


@dataclass(frozen=True, slots=True)
class Rows:
    """R rows that count: labels [R] bool, scores [R] float32 or float64, weights.

    ``weights`` is float64 [R], or None where every row counts the same: all metrics
    here are ratios, which a common factor leaves as they are.
    """

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None

    @property
    def total_weight(self) -> float:
        """Return the sum of weights; the number of rows where all count the same."""
        return len(self.labels) if self.weights is None else float(self.weights.sum())

    @property
    def positive_weight(self) -> float:
        """Return the weight of the rows with label 1."""
        if self.weights is None:
            return int(np.count_nonzero(self.labels))
        return float(self.weights[self.labels].sum())

    def require_both_classes(self) -> None:
        """Raise UndefinedMetricError where all rows have the same label."""
        positives = np.count_nonzero(self.labels)
        if positives == 0 or positives == len(self.labels):
            raise UndefinedMetricError("one class")


def check_rows(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> Rows:
    """Check the rows and drop those of weight 0, which count nowhere.

    Raises:
        ValueError: Lengths differ, a label is not 0 or 1, a weight is negative or not
            finite.
        UndefinedMetricError: No row is left, or a score is NaN.
    """
    labels, scores = np.asarray(labels), _as_floats(scores)
    for name, values in (("scores", scores), ("weights", weights)):
        if values is not None and np.shape(values) != (len(labels),):
            raise ValueError(
                f"{name} must be one number a row, shape ({len(labels)},) as the "
                f"labels, but their shape is {np.shape(values)}."
            )
    clicks = as_clicks(labels)
    if weights is not None:
        clicks, scores, weights = _weighted(clicks, scores, np.asarray(weights))
    if len(clicks) == 0:
        raise UndefinedMetricError("no rows")
    num_nan = int(np.count_nonzero(np.isnan(scores)))
    if num_nan:
        raise UndefinedMetricError(f"{num_nan} of {len(scores)} scores are NaN")
    return Rows(clicks, scores, weights)


def as_clicks(labels: np.ndarray) -> np.ndarray:
    """Return labels as bools.

    Raises:
        ValueError: A label is neither 0 nor 1.
    """
    if labels.ndim != 1:
        raise ValueError(
            f"labels must be one number a row, but their shape is {labels.shape}."
        )
    if labels.dtype == np.bool_:
        return labels
    clicks: np.ndarray = labels == 1
    unknown = np.flatnonzero(~clicks & (labels != 0))
    if len(unknown):
        raise ValueError(
            f"Labels must be 0 or 1, but row {unknown[0]} has {labels[unknown[0]]} "
            f"({len(unknown)} such rows)."
        )
    return clicks


def _as_floats(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    return scores if scores.dtype == np.float32 else scores.astype(np.float64)


def _weighted(
    clicks: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    sound = np.isfinite(weights) & (weights >= 0)
    if not sound.all():
        row = int(np.argmin(sound))
        raise ValueError(
            f"Weights must be finite and at least 0, but row {row} has {weights[row]}."
        )
    counted = weights > 0
    if not counted.all():
        clicks, scores, weights = clicks[counted], scores[counted], weights[counted]
    if len(weights) == 0 or (weights == weights[0]).all():
        return clicks, scores, None
    return clicks, scores, weights.astype(np.float64)
