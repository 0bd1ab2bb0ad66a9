"""How much worse is a model on rows where one feature's values come from other rows?

A term is a row (the receiver) with a feature's value of another row (the donor), so it
varies with both, and terms that share a row vary together. The standard errors here
count that.

Shape suffixes: K = repeats, R = rows, U = K * R terms, G = clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dlrm.metrics.rows import as_clicks
from dlrm.metrics.undefined import UndefinedMetricError


@dataclass(frozen=True, slots=True)
class Change:
    """A mean change with a normal interval."""

    value: float
    standard_error: float
    low: float
    high: float

    @property
    def covers_zero(self) -> bool:
        """Say whether no change at all is within the interval."""
        return self.low <= 0.0 <= self.high


def draw_donors(
    num_rows: int,
    *,
    repeats: int,
    seed: int,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return which row gives its value to each, int64 [K, R].

    Each repeat is a permutation: every value is used once, so that the feature's own
    distribution is kept and only its bond with the rest is cut (Breiman 2001, section
    10). Where rows have weights, a permutation would spread values as the rows lie and
    not as they count: donors are then drawn with replacement, in proportion to their
    weights.
    """
    random = np.random.default_rng(seed)
    if weights is None:
        return np.stack([random.permutation(num_rows) for _ in range(repeats)])
    shares = weights.astype(np.float64) / weights.sum(dtype=np.float64)
    return random.choice(num_rows, size=(repeats, num_rows), p=shares)


def log_loss_change(
    labels: np.ndarray,
    base: np.ndarray,
    permuted: np.ndarray,
    donors: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Change:
    """Return the mean change in log loss, in nats: above 0, the feature helps.

    The mean over repeats and rows of (loss with the donor's value) - (loss with the own
    value), a paired difference row by row. Of a fixed model, its expectation is the
    importance of Fisher, Rudin and Dominici (2019, section 3), and exactly 0 for a
    feature that is independent of the label and of all other features, whatever weight
    the model gives it.

    Args:
        labels: [R], 0 or 1.
        base: Logits of the rows as they are, [R].
        permuted: Logits of the rows with the donors' values, [K, R].
        donors: From ``draw_donors``, [K, R].
        weights: [R], above 0.
        clusters: Whole numbers [R]: rows of one number may be correlated, as those of
            a user are. Without them each row is its own.
        confidence: Of the interval.

    Raises:
        UndefinedMetricError: No rows, or a logit that is not finite.
    """
    _check(base, permuted)
    clicks = as_clicks(labels)
    before = _losses(clicks, base)
    differences = _losses(clicks, permuted) - before
    shares = _shares(len(base), weights)
    value = float(np.sum(differences.mean(axis=0) * shares))
    terms = (differences - value) * shares / len(permuted)
    return _change(value, terms, donors, clusters, confidence)


def auc_change(
    labels: np.ndarray,
    base: np.ndarray,
    permuted: np.ndarray,
    donors: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    confidence: float = 0.95,
) -> Change:
    """Return (AUC as it is) - (mean AUC of the permuted rows): above 0, it helps.

    An AUC varies, to first order, as the sum over rows of each row's own share of pairs
    won less the AUC (DeLong, DeLong and Clarke-Pearson 1988). Those shares, with the
    own value less with the donor's, are the terms of the standard error. Arguments and
    errors as ``log_loss_change``.

    Raises:
        UndefinedMetricError: Also where all labels are the same.
    """
    _check(base, permuted)
    clicks = as_clicks(labels)
    if clicks.all() or not clicks.any():
        raise UndefinedMetricError("one class")
    shares = _shares(len(base), weights)
    own = _wins(clicks, base, shares)
    value, terms = 0.0, np.empty(permuted.shape)
    for place, logits in enumerate(permuted):
        other = _wins(clicks, logits, shares)
        value += (own.auc - other.auc) / len(permuted)
        terms[place] = (own.deviations - other.deviations) / len(permuted)
    return _change(value, terms, donors, clusters, confidence)


@dataclass(frozen=True, slots=True)
class _Wins:
    auc: float
    deviations: np.ndarray
    """float64 [R]: what each row adds to the AUC's deviation; they sum to 0."""


def _wins(clicks: np.ndarray, scores: np.ndarray, shares: np.ndarray) -> _Wins:
    """Return the AUC and each row's part in its variation, ties counting one half."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    # Rows of one score share one place; all that count below it is summed before it.
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    place = np.empty(len(scores), dtype=np.int64)
    place[order] = np.cumsum(np.append(True, ranked[1:] != ranked[:-1])) - 1
    totals = {}
    for name, own in (("clicks", clicks), ("others", ~clicks)):
        at = np.add.reduceat(np.where(own, shares, 0.0)[order], starts)
        totals[name] = (np.cumsum(at) - at + 0.5 * at)[place]
    of_clicks = float(shares[clicks].sum())
    of_others = float(shares[~clicks].sum())
    won_by_click = totals["others"] / of_others
    won_by_other = 1.0 - totals["clicks"] / of_clicks
    auc = float(np.sum((shares * won_by_click)[clicks])) / of_clicks
    deviations = shares * np.where(
        clicks, (won_by_click - auc) / of_clicks, (won_by_other - auc) / of_others
    )
    return _Wins(auc, deviations)


def _change(
    value: float,
    terms: np.ndarray,
    donors: np.ndarray,
    clusters: np.ndarray | None,
    confidence: float,
) -> Change:
    variance = _variance_of_sum(terms, donors, clusters)
    error = math.sqrt(variance)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return Change(value, error, value - half, value + half)


def _variance_of_sum(
    terms: np.ndarray, donors: np.ndarray, clusters: np.ndarray | None
) -> float:
    """Return the variance of the sum of centred terms that share receivers and donors.

    The sum over all pairs of terms that share a cluster, as receiver or as donor, of
    their product: the dyadic-robust variance of Aronow, Samii and Assenova (2015). With
    S_g the sum of the terms that cluster g is in, it is the sum of S_g squared, less
    what pairs that share both clusters were counted twice for.
    """
    num_rows = terms.shape[1]
    own = np.arange(num_rows)
    if clusters is not None:
        own = np.unique(clusters, return_inverse=True)[1].reshape(-1)
    num_clusters = int(own.max()) + 1
    receivers = np.broadcast_to(own, terms.shape).reshape(-1)
    givers, flat = own[donors].reshape(-1), terms.reshape(-1)
    apart = receivers != givers
    sums = np.bincount(receivers, flat, minlength=num_clusters)
    sums += np.bincount(givers[apart], flat[apart], minlength=num_clusters)
    low, high = np.minimum(receivers, givers), np.maximum(receivers, givers)
    pairs = (low * num_clusters + high)[apart]
    _, pair = np.unique(pairs, return_inverse=True)
    twice = np.bincount(pair.reshape(-1), flat[apart]) if len(pairs) else np.zeros(1)
    variance = float(np.sum(sums**2) - np.sum(twice**2))
    # Of few rows the difference may fall below what independent terms would have.
    variance = max(variance, float(np.sum(flat**2)))
    return variance * num_clusters / max(num_clusters - 1, 1)


def _losses(clicks: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return -log(probability of what happened), float64, by softplus."""
    wide = np.where(clicks, -1.0, 1.0) * logits.astype(np.float64)
    return np.asarray(np.maximum(wide, 0.0) + np.log1p(np.exp(-np.abs(wide))))


def _shares(num_rows: int, weights: np.ndarray | None) -> np.ndarray:
    if weights is None:
        return np.full(num_rows, 1.0 / num_rows)
    wide = weights.astype(np.float64)
    return np.asarray(wide / wide.sum())


def _check(base: np.ndarray, permuted: np.ndarray) -> None:
    if len(base) == 0:
        raise UndefinedMetricError("no rows")
    if not (np.isfinite(base).all() and np.isfinite(permuted).all()):
        raise UndefinedMetricError("a logit is not finite")
