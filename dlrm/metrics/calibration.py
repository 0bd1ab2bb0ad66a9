"""Do clicks happen as often as the model says they do?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.link import logits_from_probabilities, probabilities_from_logits
from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.sums import sum_rows
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
    return sum_rows(check_rows(labels, logits, weights)).calibration()


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Bins of rising probability, empty ones left out; float64 [number of bins] each.

    ``weight`` is the number of rows where all weigh the same. ``lowest`` and
    ``highest`` are the least and greatest probability in the bin. ``num_effective`` is
    how many rows of equal weight would say as much of the bin's click rate, (sum of w)²
    / (sum of w²) (Kish 1965). ``starts``, int64, is where in the table
    the bin's scores begin.
    """

    weight: np.ndarray
    mean_probability: np.ndarray
    click_rate: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    num_effective: np.ndarray
    starts: np.ndarray


def ece(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the expected calibration error over 20 bins of equal mass.

    The mean over bins, by weight, of abs(mean probability - click rate). Bins of equal
    mass rather than width, because click probabilities crowd near zero and nearly all
    rows would share one bin of width 0.05. It is biased upwards by the noise of the
    bins' click rates: compare only values from equally many rows, or see
    ``ece_debiased``.

    Raises:
        UndefinedMetricError: No rows, or a NaN logit.
    """
    return ece_of_bins(
        reliability_bins(tabulate_scores(check_rows(labels, logits, weights)))
    )


def ece_equal_width(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the expected calibration error over 20 bins of equal width.

    As ``ece``, but bin i holds the probabilities from i / 20 to below (i + 1) / 20, as
    in most of the literature (Guo et al. 2017, section 2): to compare with it. Where
    clicks are rare one bin holds nearly all rows, and within it too high and too low
    cancel, so it hides what ``ece`` shows.

    Raises:
        UndefinedMetricError: No rows, or a NaN logit.
    """
    return ece_of_bins(
        equal_width_bins(tabulate_scores(check_rows(labels, logits, weights)))
    )


def ece_debiased(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the root mean square calibration error of 20 bins, without their noise.

    The click rate r of a bin of n rows differs from what it measures by a variance of
    about r (1 - r) / (n - 1), which every (mean probability - r)² has too much. The
    mean over bins of equal mass, by weight, of (mean probability - r)² - r (1 - r) /
    (n - 1) estimates the bins' squared calibration error without bias (Bröcker 2012;
    Kumar, Liang and Ma 2019), whatever the number of rows. Its root is given, in units
    of probability as ``ece``, but a quadratic mean: large gaps count more. Where the
    noise is more than the gaps the estimate is below 0, and 0 is given: no
    miscalibration that these rows could show. Means of the floored root are again a
    little too high; ``debiased_square_of_bins`` has neither floor nor root.

    With weights n is (sum of w)² / (sum of w²). A bin of one row shows no variance and
    counts as without error, as in Kumar, Liang and Ma's code.

    Raises:
        UndefinedMetricError: No rows, a NaN logit, or no bin of two rows.
    """
    return ece_debiased_of_bins(
        reliability_bins(tabulate_scores(check_rows(labels, logits, weights)))
    )


def ece_of_bins(bins: ReliabilityBins) -> float:
    """Return the expected calibration error of filled bins; see ``ece``."""
    gaps = np.abs(bins.mean_probability - bins.click_rate)
    return float(np.sum(gaps * bins.weight) / np.sum(bins.weight))


def ece_debiased_of_bins(bins: ReliabilityBins) -> float:
    """Return the error without the bins' noise, at least 0; see ``ece_debiased``.

    Raises:
        UndefinedMetricError: No bin of two rows.
    """
    return math.sqrt(max(debiased_square_of_bins(bins), 0.0))


def debiased_square_of_bins(bins: ReliabilityBins) -> float:
    """Return the unbiased squared calibration error, below 0 by chance.

    Raises:
        UndefinedMetricError: No bin of two rows.
    """
    # A sum of squared weights carries rounding, hence the small step above 1.
    usable = bins.num_effective > 1 + 1e-9
    if not usable.any():
        raise UndefinedMetricError("no bin of two rows")
    rates, number = bins.click_rate[usable], bins.num_effective[usable]
    squares = (bins.mean_probability[usable] - rates) ** 2
    noise = rates * (1 - rates) / (number - 1)
    return float(np.sum((squares - noise) * bins.weight[usable]) / bins.weight.sum())


def reliability_bins(
    table: ScoreTable,
    *,
    num_bins: int = NUM_BINS,
    probabilities: np.ndarray | None = None,
) -> ReliabilityBins:
    """Cut rows tabulated by logit into at most ``num_bins`` bins of about equal mass.

    Rows of one logit stay together, in the bin that holds the middle of their mass, so
    the bins do not depend on the order of rows. A tie heavier than a bin leaves its
    neighbours smaller, or empty, and those are left out. ``probabilities`` are those of
    the table's logits, if they are there already.
    """
    weights = table.positives + table.negatives
    ends = np.cumsum(weights)
    middles = (ends - 0.5 * weights) / ends[-1]
    # Sums of weights carry rounding that depends on the order of rows. A middle that is
    # meant to lie on an edge must not fall to either side by it, hence the small step
    # up.
    inner = np.searchsorted(middles * num_bins + 1e-9, np.arange(1, num_bins))
    return _fill(table, inner, probabilities)


def equal_width_bins(
    table: ScoreTable,
    *,
    num_bins: int = NUM_BINS,
    probabilities: np.ndarray | None = None,
) -> ReliabilityBins:
    """Cut rows tabulated by logit into ``num_bins`` bins of equal width.

    Bin i holds the logits from that of probability i / ``num_bins`` to below that of
    (i + 1) / ``num_bins``; the last one holds probability 1 too. ``probabilities`` are
    those of the table's logits, if they are there already.
    """
    edges = np.arange(1, num_bins) / num_bins
    inner = np.searchsorted(table.scores, logits_from_probabilities(edges))
    return _fill(table, inner, probabilities)


def _fill(
    table: ScoreTable, inner: np.ndarray, probabilities: np.ndarray | None
) -> ReliabilityBins:
    """Add up the bins that begin at 0 and ``inner``; without weight they are left out.

    ``inner`` rises, and names a bin without scores by the start of the one after it.
    """
    starts = np.unique(np.append(0, inner[inner < len(table.scores)]))
    lasts = np.append(starts[1:], len(table.scores)) - 1
    weights = table.positives + table.negatives
    if probabilities is None:
        probabilities = probabilities_from_logits(table.scores)
    mass = np.add.reduceat(weights, starts)
    filled = mass > 0
    promised = np.add.reduceat(weights * probabilities, starts)[filled]
    clicks = np.add.reduceat(table.positives, starts)[filled]
    squares = np.add.reduceat(table.sums_of_squares(), starts)[filled]
    mass = mass[filled]
    return ReliabilityBins(
        weight=mass,
        mean_probability=promised / mass,
        click_rate=clicks / mass,
        lowest=probabilities[starts[filled]],
        highest=probabilities[lasts[filled]],
        num_effective=mass**2 / squares,
        starts=starts[filled],
    )
