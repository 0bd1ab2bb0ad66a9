"""Do clicks keep what the probabilities promise? Tests of rows against their own.

Shape suffix: R = rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.clusters import cluster_codes
from dlrm.metrics.link import probabilities_from_logits

MAX_SKEWNESS = 1 / 3
"""Of a sum whose distribution the normal one is to stand for: that of 9 clicks."""


@dataclass(frozen=True, slots=True)
class PromiseTest:
    """How far a sum over rows is from what the probabilities say of it."""

    excess: float
    """The sum less its expectation, over the weight of the rows."""
    z: float
    """The same in standard errors, with the skewness taken out; its sign stays."""

    @property
    def p(self) -> float:
        """The chance of a ``z`` as far from 0, were the probabilities right."""
        return math.erfc(abs(self.z) / math.sqrt(2.0))


def calibration_test(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    sampled: bool = False,
) -> PromiseTest | None:
    """Test the number of clicks: sum of w (y - p), 0 in expectation.

    Where every label is drawn with its row's own probability p, the sum has variance
    sum of w^2 p (1 - p). ``excess`` below 0 is a promise of too many clicks.
    """
    return _test(labels, logits, weights, groups, np.ones(len(labels)), sampled)


def log_loss_test(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    sampled: bool = False,
) -> PromiseTest | None:
    """Test log loss against its expectation, the entropy of the probabilities.

    A row's log loss less that entropy is (p - y) z exactly, z being its logit, so the
    sum has mean 0 and variance sum of w^2 p (1 - p) z^2 where the probabilities are
    right: Spiegelhalter's (1986) test of the Brier score, for log loss. ``excess``
    above 0 is overconfidence, in clicks or against them; the number of clicks may still
    be right.
    """
    factors = -np.asarray(logits, dtype=np.float64)
    return _test(labels, logits, weights, groups, factors, sampled)


def _test(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None,
    factors: np.ndarray,
    sampled: bool,
) -> PromiseTest | None:
    """Test sum of w f (y - p), None where a normal distribution cannot tell.

    With ``groups`` rows of a group may go astray together: the variance is then that of
    the groups' sums where it is the larger one. A group alone has none.

    The sum is skewed where clicks are rare. Hall's (1992) monotone cubics take that
    out: of a sum with a known variance, z - s (z^2 - 1) / 6 + s^2 z^3 / 108 with the
    skewness s. Weights of ``sampled`` rows depend on the outcome, and the variance with
    them; it is then the sum of squares, and of a sum over its own squares' root the
    cubic is z + s (2 z^2 + 1) / 6 + s^2 z^3 / 27.
    """
    if not np.isfinite(logits).all() or not (weights > 0).any():
        return None
    p = probabilities_from_logits(logits)
    factors = factors * weights.astype(np.float64)
    parts = factors * (labels - p)
    if sampled:
        variance, third = float(np.sum(parts**2)), float(np.sum(parts**3))
    else:
        both = p * probabilities_from_logits(-np.asarray(logits))
        variance = float(np.sum(factors**2 * both))
        third = float(np.sum(factors**3 * both * (1 - 2 * p)))
    if groups is not None:
        variance = max(variance, _variance_over_groups(parts, weights, groups))
    if variance <= 0:
        return None
    s = third / variance**1.5
    if abs(s) > MAX_SKEWNESS:
        return None
    total = float(parts.sum())
    z = total / math.sqrt(variance)
    if sampled:
        z = z + s * (2 * z * z + 1) / 6 + s**2 * z**3 / 27
    else:
        z = z - s * (z * z - 1) / 6 + s**2 * z**3 / 108
    return PromiseTest(excess=total / float(weights.sum(dtype=np.float64)), z=z)


def _variance_over_groups(
    parts: np.ndarray, weights: np.ndarray, groups: np.ndarray
) -> float:
    """Return G / (G - 1) times the sum of the groups' squared sums, centred."""
    codes = cluster_codes(groups, len(parts))
    sums = np.bincount(codes, weights=parts)
    if len(sums) < 2:
        return 0.0
    shares = np.bincount(codes, weights=weights.astype(np.float64))
    centred = sums - parts.sum() * shares / shares.sum()
    return float(centred @ centred) * len(sums) / (len(sums) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's (1979) adjusted p-values, in the order given.

    Calling those below a level bad keeps the chance of any wrong call below that level,
    however the tests depend on each other: slices overlap, and share their rows.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
