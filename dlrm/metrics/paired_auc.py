"""Is one model's AUC above another's on the same rows, or is it chance?

Shape suffixes: S = seeds of one model, R = rows, P = clicks, N = the other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.clusters import cluster_codes
from dlrm.metrics.paired import (
    PairedDifference,
    Variance,
    add_variances,
    seed_variance,
    variance_of_sum,
)
from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.undefined import UndefinedMetricError


def compare_auc(
    labels: np.ndarray,
    candidate: Sequence[np.ndarray],
    baseline: Sequence[np.ndarray],
    *,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> PairedDifference:
    """Return the mean AUC of the candidate's seeds less that of the baseline's.

    The row error is DeLong, DeLong and Clarke-Pearson's (1988): an AUC is the mean over
    clicks of the share of other rows below them, and as much the mean over the others
    of the share of clicks above them. A row's share is averaged over a model's seeds,
    and the two models' shares are subtracted row by row, so that what is hard for both
    cancels; the variance of these differences over clicks and over the others, each by
    its number, adds up to that of the difference.

    That holds for rows that are drawn independently. With ``groups`` it is Obuchowski's
    (1997, equation 4): a group's clicks are added up, and so are its other rows, and
    the two sums may move together. With weights a row's share counts by its weight.

    The seed error is that of the means of the seeds' own AUCs.

    Args:
        labels: [R], 0 or 1.
        candidate: S scores of every row, [R] each, float32 or float64.
        baseline: The same of the other model, with as many seeds or not.
        weights: [R], not negative; rows of weight 0 count in nothing.
        groups: [R], any sortable ids; rows masked in a ``numpy.ma`` array have none,
            and are taken to be independent of all others.

    Raises:
        UndefinedMetricError: No rows, one class, fewer than two clicks, other rows or
            groups of either, or a NaN score.
        ValueError: A model has no scores, or they are not one a row.
    """
    if not (candidate and baseline):
        raise ValueError("A model must have the scores of at least one seed.")
    mine, theirs = (_Shares.of(labels, m, weights) for m in (candidate, baseline))
    is_click = mine.is_click
    gains = mine.shares - theirs.shares
    row_weights = np.ones(len(gains)) if mine.weights is None else mine.weights
    totals = [float(row_weights[side].sum()) for side in (~is_click, is_click)]
    difference = float(np.sum((row_weights * gains)[is_click])) / totals[1]
    moves = (
        row_weights * (gains - difference) / np.where(is_click, totals[1], totals[0])
    )
    if groups is not None and weights is not None:
        groups = np.ma.asarray(groups)[np.asarray(weights) > 0]
    codes = None if groups is None else cluster_codes(groups, len(gains))
    return PairedDifference(
        difference,
        _row_variance(moves, is_click)
        if codes is None
        else _cluster_variance(moves, is_click, codes),
        seed_variance(mine.aucs, theirs.aucs),
    )


def _row_variance(moves: np.ndarray, is_click: np.ndarray) -> Variance:
    return add_variances(
        variance_of_sum(moves[is_click]), variance_of_sum(moves[~is_click])
    )


def _cluster_variance(
    moves: np.ndarray, is_click: np.ndarray, codes: np.ndarray
) -> Variance:
    num_groups = int(codes.max()) + 1
    sums, parts = [], []
    for side in (is_click, ~is_click):
        with_side = np.bincount(codes[side], minlength=num_groups) > 0
        of_groups = np.bincount(codes[side], moves[side], minlength=num_groups)
        sums.append(of_groups)
        parts.append(variance_of_sum(of_groups[with_side]))
    together = float(np.sum(sums[0] * sums[1])) * num_groups / (num_groups - 1)
    value = parts[0].value + parts[1].value + 2.0 * together
    # A sum of estimates: with few groups their parts may leave less than nothing.
    return Variance(max(value, 0.0), min(part.df for part in parts))


@dataclass(frozen=True, slots=True)
class _Shares:
    """A model's place in every pair of rows, averaged over its seeds."""

    is_click: np.ndarray
    """bool [R], of the rows that weigh something."""
    weights: np.ndarray | None
    """float64 [R]; None where all weigh the same."""
    shares: np.ndarray
    """float64 [R]: of a click the share of other rows that score below, of another row
    the share of clicks that score above; ties one half."""
    aucs: np.ndarray
    """float64 [S]"""

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        seeds: Sequence[np.ndarray],
        weights: np.ndarray | None,
    ) -> _Shares:
        rows = [check_rows(labels, scores, weights) for scores in seeds]
        shares = [_shares(seed) for seed in rows]
        first = rows[0]
        clicks = None if first.weights is None else first.weights[first.labels]
        aucs = [np.average(of_seed[first.labels], weights=clicks) for of_seed in shares]
        return cls(first.labels, first.weights, np.mean(shares, axis=0), np.array(aucs))


def _shares(rows: Rows) -> np.ndarray:
    rows.require_both_classes()
    is_click = rows.labels
    if min(np.count_nonzero(is_click), np.count_nonzero(~is_click)) < 2:
        raise UndefinedMetricError("fewer than two rows of a class")
    shares = np.empty(len(is_click))
    for side in (is_click, ~is_click):
        among = None if rows.weights is None else rows.weights[~side]
        shares[side] = _mean_place(rows.scores[side], rows.scores[~side], among)
    shares[~is_click] = 1.0 - shares[~is_click]
    return shares


def _mean_place(
    scores: np.ndarray, among: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Return the share of ``among`` below each score, equal ones counting one half."""
    order = None if weights is None else np.argsort(among)
    ordered = np.sort(among) if order is None else among[order]
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    if weights is None:
        return (below + not_above) / (2.0 * len(among))
    mass = np.append(0.0, np.cumsum(weights[order]))
    return (mass[below] + mass[not_above]) / (2.0 * mass[-1])
