"""How probable did the model make what happened? Proper scores of its probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.rows import Rows, check_rows, weighted_mean
from dlrm.metrics.undefined import UndefinedMetricError

PROBABILITY_FLOOR = 2.0**-52
"""Bare probabilities are clipped to [2^-52, 1 - 2^-52]: 1 - 2^-52 is a float64, and the
largest loss a row can then have, 36 nats, is finite but far beyond any honest one."""


def log_loss(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the weighted mean of -log(probability given to what happened), in nats.

    Computed as softplus of the logit's wrong-way size, max(s, 0) + log(1 +
    exp(-abs(s))) with s = logit for a non-click and -logit for a click. By way of the
    probability it would be lost: that is exactly 1 in float32 from logit 18 on.

    Raises:
        UndefinedMetricError: No rows, a NaN logit, or an infinite one on the wrong
            side.
    """
    return _log_loss_of_rows(check_rows(labels, logits, weights))


def normalized_entropy(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return log loss over that of the best constant, the rows' own click rate.

    Log loss alone mostly tells the click rate: 0.1 is poor at 2 % clicks and superb at
    30 %. Against the constant, 1 is no better than knowing the rate, 0 is perfect (He
    et al. 2014, section 3). The rate is the evaluated rows' own, so that the constant
    is the best one there; the training rate would flatter the model wherever the rate
    moved.

    Raises:
        UndefinedMetricError: As ``log_loss``, and for one class, where the entropy is
            0.
    """
    rows = check_rows(labels, logits, weights)
    rows.require_both_classes()
    rate = rows.positive_weight / rows.total_weight
    entropy = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)
    return _log_loss_of_rows(rows) / entropy


def brier(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the weighted mean squared difference between probability and label.

    Proper like log loss (its expectation is least at the true probability), but
    bounded: one confident mistake costs at most 1, where log loss may be ruled by it
    (Brier 1950, one class's half).

    Raises:
        UndefinedMetricError: No rows, or a NaN logit.
    """
    rows = check_rows(labels, logits, weights)
    return weighted_mean(rows, lambda y, z: (probabilities_from_logits(z) - y) ** 2)


@dataclass(frozen=True, slots=True)
class ProbabilityLogLoss:
    """Log loss of bare probabilities, and how many of them had to be clipped."""

    log_loss: float
    num_clipped: int


def log_loss_from_probabilities(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> ProbabilityLogLoss:
    """Return log loss where only probabilities are known, clipped at 2^-52.

    They are widened to float64 before they are clipped: in float32 1 - 2^-52 is 1. A
    clipped row's loss is a convention, not a measurement, hence the count beside it.

    Raises:
        ValueError: A probability is outside [0, 1].
        UndefinedMetricError: No rows, or a NaN probability.
    """
    rows = check_rows(labels, probabilities, weights)
    wide = rows.scores.astype(np.float64)
    if wide.min() < 0 or wide.max() > 1:
        raise ValueError(
            f"Probabilities must be in [0, 1], but they span {wide.min()} to "
            f"{wide.max()}."
        )
    clipped = np.clip(wide, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    loss = weighted_mean(
        Rows(rows.labels, clipped, rows.weights),
        lambda y, p: np.where(y > 0, -np.log(p), -np.log1p(-p)),
    )
    return ProbabilityLogLoss(loss, int(np.count_nonzero(clipped != wide)))


def _log_loss_of_rows(rows: Rows) -> float:
    loss = weighted_mean(rows, _softplus_of_wrong_way)
    if not math.isfinite(loss):
        raise UndefinedMetricError("an infinite logit on the wrong side")
    return loss


def _softplus_of_wrong_way(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    wrong_way = np.where(labels > 0, -logits, logits)
    return np.maximum(wrong_way, 0.0) + np.log1p(np.exp(-np.abs(wrong_way)))
