"""How unlike two samples are, and how unlike chance alone makes them.

Shape suffixes: K = bins or categories.
"""

from __future__ import annotations

import math

import numpy as np

MIN_CLASS = 25
"""Rows of either class that an AUC needs to say anything."""
NUM_BINS = 10
_DEVIATIONS = 5.0
"""Standard deviations that chance is given: with 5, one finding in 3 million tests."""


def bin_edges(values: np.ndarray) -> list[float]:
    """Return what cuts values into at most ``NUM_BINS`` bins of equal size."""
    present = np.sort(values[~np.isnan(values)])
    if not present.size:
        return []
    places = np.arange(1, NUM_BINS) * present.size // NUM_BINS
    found = np.unique(present[places])
    return [float(edge) for edge in found[found > present[0]]]


def bin_counts(values: np.ndarray, edges: list[float]) -> np.ndarray:
    """Return int64 [K]: values present in each bin, lower edges included."""
    present = values[~np.isnan(values)]
    bins = np.searchsorted(np.array(edges, dtype=np.float64), present, side="right")
    return np.bincount(bins, minlength=len(edges) + 1)


def stability_index(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the population stability index of counts [K], and what chance makes.

    It is the sum of (q - p) ln(q / p), with half a row added to each bin so that an
    empty one counts. Between samples of one distribution it is (1/n + 1/m) times a
    chi-square of K - 1 degrees of freedom (Yurdakul, 2018).
    """
    size, n, m = expected.size, int(expected.sum()), int(found.sum())
    if size < 2 or not n or not m:
        return 0.0, 0.0
    p = (expected + 0.5) / (n + 0.5 * size)
    q = (found + 0.5) / (m + 0.5 * size)
    index = float(((q - p) * np.log(q / p)).sum())
    chance = size - 1 + _DEVIATIONS * math.sqrt(2 * (size - 1))
    return index, chance * (1 / n + 1 / m)


def share_noise(share: float, other: float, n: int, m: int) -> float:
    """Return by how much the shares of n and of m equal rows may differ by chance."""
    pooled = (share * n + other * m) / (n + m)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return _DEVIATIONS * spread + 3 / m


def log_odds(positives: float, rows: float) -> tuple[float, float]:
    """Return the log-odds of a click rate and their variance, half a row added."""
    yes, no = positives + 0.5, rows - positives + 0.5
    return math.log(yes / no), 1 / yes + 1 / no


def log_odds_noise(variance: float, other: float) -> float:
    """Return by how much the log-odds of equal rates may differ by chance."""
    return _DEVIATIONS * math.sqrt(variance + other)


def range_noise(num_known: int, num_new: int) -> float:
    """Return the share of new values that may lie beyond ``num_known`` old ones.

    Whatever the distribution, the share beyond both extremes is about gamma(2) / n.
    """
    beyond = 24 / (num_known + 1)
    share = min(beyond + 0.01, 0.5)
    return beyond + _DEVIATIONS * math.sqrt(share * (1 - share) / max(num_new, 1))


def separation(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return max(AUC, 1 - AUC) of scores, ties counted half; 0.5 for few rows."""
    clicked = labels > 0
    if min(clicked.sum(), (~clicked).sum()) < MIN_CLASS:
        return 0.5
    _, inverse = np.unique(scores, return_inverse=True)
    clicks = np.bincount(inverse, clicked)
    others = np.bincount(inverse, ~clicked)
    below = np.cumsum(others) - others
    auc = float((clicks * (below + others / 2)).sum())
    auc /= float(clicks.sum()) * float(others.sum())
    return max(auc, 1 - auc)


def separation_of_ids(ids: np.ndarray, labels: np.ndarray) -> float:
    """Return the separation that ids' click rates give on rows they were not from.

    Rates are of every other row: an id of its own for each row says nothing then.
    """
    known, judged = np.arange(ids.size) % 2 == 0, np.arange(ids.size) % 2 == 1
    if known.sum() < 1 or judged.sum() < 1:
        return 0.5
    found, inverse = np.unique(ids, return_inverse=True)
    rows = np.bincount(inverse[known], minlength=found.size)
    clicks = np.bincount(inverse[known], labels[known], minlength=found.size)
    rates = (clicks + labels[known].mean()) / (rows + 1)
    return separation(rates[inverse[judged]], labels[judged])


def collision_chance(values: np.ndarray) -> float:
    """Return the chance that two rows have the same value, from pairs of a sample."""
    size = values.size
    if size < 2:
        return 1.0
    _, counts = np.unique(values, return_counts=True)
    pairs = float((counts * (counts - 1.0)).sum())
    # No pair seen says no more than that there are few.
    return max(pairs, 1.0) / (size * (size - 1.0))
