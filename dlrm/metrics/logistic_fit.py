"""Logistic regression of a few coefficients, by Newton's method in float64.

Shape suffixes: R = rows, K = coefficients.
"""

from __future__ import annotations

import numpy as np

from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.rows import Rows
from dlrm.metrics.undefined import UndefinedMetricError

_MAX_STEPS = 100
_MAX_HALVINGS = 40
# The loss is a mean of order 1, whose float64 sum carries about 1e-16: what a step
# promises to gain below this cannot be told from rounding.
_LEAST_GAIN = 1e-18


def fit_logistic(rows: Rows, features_RK: np.ndarray) -> np.ndarray:
    """Return the coefficients [K] of the largest likelihood, float64.

    The weighted mean of the log loss of ``features_RK @ coefficients`` is convex, so
    its minimum is the same whatever the way to it. Newton's steps are halved until
    the loss falls; they are deterministic.

    Raises:
        UndefinedMetricError: No finite coefficients are best: they separate the
            classes, or a feature says nothing that the others do not.
    """
    labels = rows.labels.astype(np.float64)
    weights = np.ones(len(labels)) if rows.weights is None else rows.weights
    weights = weights / weights.sum()
    scales = _scales(features_RK, weights)
    scaled = features_RK / scales
    found = np.zeros(features_RK.shape[1])
    loss = _loss(scaled @ found, labels, weights)
    for _ in range(_MAX_STEPS):
        chances = probabilities_from_logits(scaled @ found)
        slope = scaled.T @ (weights * (chances - labels))
        spread = weights * chances * (1 - chances)
        try:
            step = np.linalg.solve((scaled * spread[:, None]).T @ scaled, slope)
        except np.linalg.LinAlgError as error:
            raise UndefinedMetricError("the logits do not vary enough") from error
        gain = float(slope @ step)
        if gain < _LEAST_GAIN:
            # The last step is still taken: it squares what error is left.
            return (found - step) / scales
        factor, lower = 1.0, np.inf
        for _ in range(_MAX_HALVINGS):
            lower = _loss(scaled @ (found - factor * step), labels, weights)
            if lower < loss:
                break
            factor /= 2
        if not lower < loss:
            return found / scales
        found, loss = found - factor * step, lower
    raise UndefinedMetricError("the logits separate the clicks from all other rows")


def _scales(features_RK: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return root mean squares, so that features of all sizes can be told apart."""
    found: np.ndarray = np.sqrt(weights @ features_RK**2)
    return np.where(found > 0, found, 1.0)


def _loss(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    wrong_way = np.where(labels > 0, -logits, logits)
    losses = np.maximum(wrong_way, 0.0) + np.log1p(np.exp(-np.abs(wrong_way)))
    return float(weights @ losses)
