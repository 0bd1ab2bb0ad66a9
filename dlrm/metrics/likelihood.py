"""How probable did the model make what happened? Proper scores of its probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.link import clip_probabilities, logits_from_probabilities
from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.sums import sum_rows


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
    return sum_rows(check_rows(labels, logits, weights)).log_loss()


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
    return sum_rows(check_rows(labels, logits, weights)).normalized_entropy()


def relative_information_gain(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return 1 - normalized entropy: the share of the entropy that the model explains.

    0 is no better than knowing the click rate, 1 is perfect, and below 0 the model is
    worse than the rate (RIG in He et al. 2014, section 3).

    Raises:
        UndefinedMetricError: As ``normalized_entropy``.
    """
    return 1.0 - normalized_entropy(labels, logits, weights)


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
    return sum_rows(check_rows(labels, logits, weights)).brier()


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
    clipped = clip_probabilities(rows.scores)
    logits = logits_from_probabilities(clipped.probabilities)
    loss = sum_rows(Rows(rows.labels, logits, rows.weights)).log_loss()
    return ProbabilityLogLoss(loss, clipped.num_clipped)
