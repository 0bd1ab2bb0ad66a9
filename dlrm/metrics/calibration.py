"""Do clicks happen as often as the model says they do?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.rows import check_rows, weighted_mean
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError

NUM_BINS = 20


def calibration(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the clicks that the model promised over those that came.

    Sum of probabilities over sum of labels, both weighted. 1.1 means that an auction
    paying by this model overbids by a tenth on average. It says nothing about where: a
    constant at the click rate has exactly 1.

    Raises:
        UndefinedMetricError: No rows, a NaN logit, or no click.
    """
    rows = check_rows(labels, logits, weights)
    if rows.positive_weight == 0:
        raise UndefinedMetricError("no clicks")
    expected = weighted_mean(rows, lambda _, z: probabilities_from_logits(z))
    return expected * rows.total_weight / rows.positive_weight


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Bins of rising probability, empty ones left out; float64 [number of bins] each.

    ``weight`` is the number of rows where all weigh the same. ``lowest`` and
    ``highest`` are the least and greatest probability in the bin.
    """

    weight: np.ndarray
    mean_probability: np.ndarray
    click_rate: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def ece(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the expected calibration error over 20 bins of equal mass.

    The mean over bins, by weight, of abs(mean probability - click rate). Bins of equal
    mass rather than width, because click probabilities crowd near zero and nearly all
    rows would share one bin of width 0.05. It is biased upwards by the noise of the
    bins' click rates: compare only values from equally many rows.

    Raises:
        UndefinedMetricError: No rows, or a NaN logit.
    """
    return ece_of_bins(
        reliability_bins(tabulate_scores(check_rows(labels, logits, weights)))
    )


def ece_of_bins(bins: ReliabilityBins) -> float:
    """Return the expected calibration error of filled bins; see ``ece``."""
    gaps = np.abs(bins.mean_probability - bins.click_rate)
    return float(np.sum(gaps * bins.weight) / np.sum(bins.weight))


def reliability_bins(table: ScoreTable, *, num_bins: int = NUM_BINS) -> ReliabilityBins:
    """Cut rows tabulated by logit into at most ``num_bins`` bins of about equal mass.

    Rows of one logit stay together, in the bin that holds the middle of their mass, so
    the bins do not depend on the order of rows. A tie heavier than a bin leaves its
    neighbours smaller, or empty, and those are left out.
    """
    weights = table.positives + table.negatives
    ends = np.cumsum(weights)
    middles = (ends - 0.5 * weights) / ends[-1]
    # Sums of weights carry rounding that depends on the order of rows. A middle that is
    # meant to lie on an edge must not fall to either side by it, hence the small step
    # up.
    numbers = np.minimum((middles * num_bins + 1e-9).astype(np.int64), num_bins - 1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1])
    lasts = np.append(starts[1:], len(numbers)) - 1
    probabilities = probabilities_from_logits(table.scores)
    mass = np.add.reduceat(weights, starts)
    return ReliabilityBins(
        weight=mass,
        mean_probability=np.add.reduceat(weights * probabilities, starts) / mass,
        click_rate=np.add.reduceat(table.positives, starts) / mass,
        lowest=probabilities[starts],
        highest=probabilities[lasts],
    )
