"""How far could each metric be off, had other rows of the same kind been tested?

Shape suffixes: R = rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from dlrm.metrics.blocks import tie_starts
from dlrm.metrics.clusters import cluster_codes, num_distinct, number_values
from dlrm.metrics.group_table import GroupTable, tabulate_groups
from dlrm.metrics.grouped import aucs_of_table
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.ranking import auc_of_table, pr_auc_of_table, pr_curve_of_table
from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError

LEVEL = 0.95
_LOWEST = {"rig": -math.inf}
_GROUPED = ("gauc", "gauc_by_clicks")
_UNBOUNDED = ("log_loss", "normalized_entropy", "calibration")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric, and how far each row pulls it from its value; the pulls sum to 0.

    The sum of squared pulls of independent units is the metric's variance to first
    order (the infinitesimal jackknife; Efron 1982, chapter 6).
    """

    value: float
    pulls: np.ndarray
    """float64 [R]"""
    by_class: bool = False
    """The clicks and the others are two samples, each with its own mean."""


def metric_intervals(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    *,
    names: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the 95 % interval of each metric that has one, arrays [R].

    Returns ``{"level": 0.95, "unit": "row" or "group", "num_units": ..., "auc": {"low":
    ..., "high": ..., "standard_error": ...}, ...}`` with the keys ``auc``, ``pr_auc``,
    ``log_loss``, ``normalized_entropy``, ``rig``, ``brier``, ``calibration`` and
    ``accuracy``, and with groups ``gauc`` and ``gauc_by_clicks``. A metric without an
    interval is left out: it is undefined, there are too few units, or an AUC is 0 or 1,
    where DeLong's variance is 0 and says nothing. ``names`` are those that are wanted.

    The intervals are normal: the value and 1.96 standard errors to either side, cut to
    where the metric can lie. For the AUC the standard error is DeLong, DeLong and
    Clarke-Pearson's (1988), for the others that of their linear approximation, which
    for means (log loss, Brier score, accuracy) is the textbook one. ECE has none: it is
    biased, and an interval around it would not cover.

    With ``groups`` (any ids; a row masked in a ``numpy.ma`` array is a group of its
    own) rows of a group may be correlated and only groups are taken as independent: the
    pulls are summed by group first (Obuchowski 1997 for the AUC, Liang and Zeger 1986
    for the others).

    Raises:
        ValueError: Lengths differ, a label is not 0 or 1, or a weight is negative.
    """
    found: dict[str, Any] = {"level": LEVEL, "unit": "row", "num_units": 0}
    labels = np.asarray(labels)
    try:
        rows = check_rows(labels, np.asarray(logits), weights)
    except UndefinedMetricError:
        return found
    units = None if groups is None else _units(groups, weights, num_rows=len(labels))
    found["unit"] = "row" if units is None else "group"
    found["num_units"] = len(rows.labels) if units is None else int(units.max()) + 1
    rows, units = _by_score(rows, units)
    for name, estimate in _ESTIMATES.items():
        if names is not None and name not in names:
            continue
        try:
            found[name] = _around(name, estimate(rows), rows.labels, units)
        except UndefinedMetricError:
            continue
    if groups is not None and (names is None or not set(_GROUPED).isdisjoint(names)):
        table = tabulate_groups(labels, logits, groups, weights)
        of_groups = _grouped_intervals(table)
        found |= {k: v for k, v in of_groups.items() if names is None or k in names}
    return found


def standard_error(
    estimate: Estimate, labels: np.ndarray, units: np.ndarray | None
) -> float:
    """Return the standard error over other draws of rows, or of whole units.

    ``units`` [R] numbers the independent units from 0; None takes each row as one. A
    sum of squares over n units is enlarged by n / (n - 1). Where the classes are two
    samples each has its own n, the number of units with such rows, which makes this
    DeLong's and Obuchowski's variance exactly.

    Raises:
        UndefinedMetricError: There are fewer than two units (of either class).
    """
    if not estimate.by_class:
        pulls = _by_unit(estimate.pulls, units)
        return math.sqrt(_enlarged(float(pulls @ pulls), len(pulls)))
    click = np.where(labels, estimate.pulls, 0.0)
    other = estimate.pulls - click
    if units is None:
        num_clicks = int(np.count_nonzero(labels))
        variance = _enlarged(float(click @ click), num_clicks)
        variance += _enlarged(float(other @ other), len(labels) - num_clicks)
        return math.sqrt(variance)
    click, other = _by_unit(click, units), _by_unit(other, units)
    variance = _enlarged(float(click @ click), num_distinct(units[labels]))
    variance += _enlarged(float(other @ other), num_distinct(units[~labels]))
    variance += 2 * _enlarged(float(click @ other), len(click))
    return math.sqrt(max(variance, 0.0))


def wilson_interval(rate: float, num_rows: float) -> tuple[float, float]:
    """Return the 95 % interval of a share of independent rows (Wilson 1927).

    It holds for few rows and rates near 0 too, where the normal one is empty.
    """
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    scale = 1 + z * z / num_rows
    middle = (rate + z * z / (2 * num_rows)) / scale
    spread = rate * (1 - rate) / num_rows + z * z / (4 * num_rows**2)
    half = z * math.sqrt(spread) / scale
    return max(middle - half, 0.0), min(middle + half, 1.0)


def auc_estimate(rows: Rows) -> Estimate:
    """Return the AUC with DeLong's components: each row's share of pairs won.

    A pair weighs the product of its rows' weights, so that a click's share is that of
    the others' weight below it, ties one half, and it pulls by its own weight.

    Raises:
        UndefinedMetricError: One class, or an AUC of 0 or 1.
    """
    rows.require_both_classes()
    table = tabulate_scores(rows)
    value = auc_of_table(table)
    if value in (0.0, 1.0):
        raise UndefinedMetricError("every pair agrees")
    positives, negatives = table.positives.sum(), table.negatives.sum()
    below = (np.cumsum(table.negatives) - 0.5 * table.negatives) / negatives
    not_above = (np.cumsum(table.positives) - 0.5 * table.positives) / positives
    place = _places(rows, table)
    pulls = np.where(
        rows.labels,
        (below[place] - value) / positives,
        (1.0 - not_above[place] - value) / negatives,
    )
    return Estimate(value, _weighted(pulls, rows), by_class=True)


def pr_auc_estimate(rows: Rows) -> Estimate:
    """Return average precision with its pulls.

    Average precision is the mean over clicks of found(s) / shown(s), the weights of
    clicks and of all rows with at least the click's score. A row takes part as a click
    of its own, in ``found`` of the clicks below it, and in their ``shown``.

    Raises:
        UndefinedMetricError: One class.
    """
    table = tabulate_scores(rows)
    value, curve = pr_auc_of_table(table), pr_curve_of_table(table)
    gained = table.positives[::-1]
    shown = np.cumsum(gained + table.negatives[::-1])
    # From the lowest score up: what one more row at a score changes at those below it.
    as_found = np.cumsum((gained / shown)[::-1])
    as_shown = np.cumsum((gained * curve.precision / shown)[::-1])
    place = _places(rows, table)
    own = curve.precision[::-1][place] + as_found[place] - value
    pulls = np.where(rows.labels, own, 0.0) - as_shown[place]
    return Estimate(value, _weighted(pulls, rows) / rows.positive_weight)


def log_loss_estimate(rows: Rows) -> Estimate:
    """Return log loss with its pulls.

    Raises:
        UndefinedMetricError: An infinite logit on the wrong side.
    """
    wrong_way = np.where(rows.labels, -1.0, 1.0) * rows.scores
    losses = np.maximum(wrong_way, 0.0) + np.log1p(np.exp(-np.abs(wrong_way)))
    if not np.isfinite(losses).all():
        raise UndefinedMetricError("an infinite logit on the wrong side")
    return _mean_estimate(losses, rows)


def normalized_entropy_estimate(rows: Rows) -> Estimate:
    """Return log loss over the click rate's entropy, both of which the rows pull.

    Raises:
        UndefinedMetricError: As log loss, or one class.
    """
    rows.require_both_classes()
    loss, rate = (
        log_loss_estimate(rows),
        _mean_estimate(rows.labels.astype(float), rows),
    )
    log_odds = math.log(rate.value) - math.log1p(-rate.value)
    entropy = -rate.value * log_odds - math.log1p(-rate.value)
    value = loss.value / entropy
    return Estimate(value, (loss.pulls + value * log_odds * rate.pulls) / entropy)


def rig_estimate(rows: Rows) -> Estimate:
    """Return one less the normalized entropy.

    Raises:
        UndefinedMetricError: As log loss, or one class.
    """
    entropy = normalized_entropy_estimate(rows)
    return Estimate(1.0 - entropy.value, -entropy.pulls)


def brier_estimate(rows: Rows) -> Estimate:
    """Return the Brier score with its pulls."""
    probabilities = probabilities_from_logits(rows.scores.astype(np.float64))
    return _mean_estimate((probabilities - rows.labels) ** 2, rows)


def calibration_estimate(rows: Rows) -> Estimate:
    """Return promised clicks over clicks, both of which the rows pull.

    Raises:
        UndefinedMetricError: No clicks.
    """
    if rows.positive_weight == 0:
        raise UndefinedMetricError("no clicks")
    probabilities = probabilities_from_logits(rows.scores.astype(np.float64))
    promised = float(_weighted(probabilities, rows).sum())
    value = promised / rows.positive_weight
    pulls = _weighted(probabilities - value * rows.labels, rows)
    return Estimate(value, pulls / rows.positive_weight)


def accuracy_estimate(rows: Rows) -> Estimate:
    """Return the share called rightly by a threshold of 0.5, with its pulls."""
    return _mean_estimate(((rows.scores >= 0) == rows.labels).astype(float), rows)


_ESTIMATES: dict[str, Callable[[Rows], Estimate]] = {
    "auc": auc_estimate,
    "pr_auc": pr_auc_estimate,
    "log_loss": log_loss_estimate,
    "normalized_entropy": normalized_entropy_estimate,
    "rig": rig_estimate,
    "brier": brier_estimate,
    "calibration": calibration_estimate,
    "accuracy": accuracy_estimate,
}


def _around(
    name: str, estimate: Estimate, labels: np.ndarray, units: np.ndarray | None
) -> dict[str, float]:
    error = standard_error(estimate, labels, units)
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * error
    return {
        "low": max(estimate.value - half, _LOWEST.get(name, 0.0)),
        "high": min(estimate.value + half, math.inf if name in _UNBOUNDED else 1.0),
        "standard_error": error,
    }


def _grouped_intervals(table: GroupTable) -> dict[str, dict[str, float]]:
    """Return those of grouped AUC, whose sample is the groups with both classes."""
    if table.num_groups == 0:
        return {}
    groups, found = aucs_of_table(table), {}
    aucs = groups.aucs[groups.used]
    for name, weights in zip(_GROUPED, (groups.weights, groups.clicks), strict=True):
        used = weights[groups.used]
        if len(used) >= 2:
            value = float(np.average(aucs, weights=used))
            estimate = Estimate(value, used * (aucs - value) / used.sum())
            found[name] = _around(name, estimate, np.ones(len(used), bool), None)
    return found


def _mean_estimate(values_R: np.ndarray, rows: Rows) -> Estimate:
    total = rows.total_weight
    value = float(_weighted(values_R, rows).sum()) / total
    return Estimate(value, _weighted(values_R - value, rows) / total)


def _weighted(values_R: np.ndarray, rows: Rows) -> np.ndarray:
    return values_R if rows.weights is None else values_R * rows.weights


def _places(rows: Rows, table: ScoreTable) -> np.ndarray:
    """Return each row's place among the distinct scores, [R]."""
    if not _is_rising(rows.scores):
        return np.searchsorted(table.scores, rows.scores.astype(np.float64))
    sizes = np.diff(tie_starts(rows.scores), append=len(rows.scores))
    return np.repeat(np.arange(len(sizes)), sizes)


def _by_score(rows: Rows, units: np.ndarray | None) -> tuple[Rows, np.ndarray | None]:
    """Sort rows, and their units, by score: what looks scores up then walks along."""
    if _is_rising(rows.scores):
        return rows, units
    order = np.argsort(rows.scores, kind="stable")
    weights = None if rows.weights is None else rows.weights[order]
    sorted_rows = Rows(rows.labels[order], rows.scores[order], weights)
    return sorted_rows, None if units is None else units[order]


def _is_rising(scores: np.ndarray) -> bool:
    return bool((scores[1:] >= scores[:-1]).all())


def _by_unit(pulls: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    return pulls if units is None else np.bincount(units, weights=pulls)


def _enlarged(squares: float, num_units: int) -> float:
    if num_units < 2:
        raise UndefinedMetricError("fewer than two independent units")
    return squares * num_units / (num_units - 1)


def _units(
    groups: np.ndarray, weights: np.ndarray | None, *, num_rows: int
) -> np.ndarray:
    """Number the groups of the rows that count from 0, int64, none left out.

    Raises:
        ValueError: There is not one group a row.
    """
    codes = cluster_codes(groups, num_rows)
    return (
        codes if weights is None else number_values(codes[np.asarray(weights) > 0])[1]
    )
