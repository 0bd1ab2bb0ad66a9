"""What is a Brier score made of? Shape suffix: N = bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.calibration import NUM_BINS, ReliabilityBins, reliability_bins
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores


@dataclass(frozen=True, slots=True)
class BrierParts:
    """The terms of a Brier score: reliability - resolution + uncertainty + within_bin.

    ``within_bin`` is ``within_bin_variance`` - ``within_bin_covariance``.
    """

    reliability: float
    """Mean (mean probability - click rate)² of bins: squared calibration error, 0 at
    best."""
    resolution: float
    """Mean (click rate of bin - click rate of all)²: how far the model parts rows of
    high from rows of low rate; ``uncertainty`` at best, 0 for a constant."""
    uncertainty: float
    """rate (1 - rate): the Brier score of the best constant, no merit of the model."""
    within_bin_variance: float
    """Mean variance of the probabilities of a bin."""
    within_bin_covariance: float
    """Twice the mean covariance of probability and label in a bin."""

    @property
    def within_bin(self) -> float:
        """What bins hide; below 0 where the model tells rows of a bin apart well."""
        return self.within_bin_variance - self.within_bin_covariance

    @property
    def total(self) -> float:
        """The Brier score."""
        return self.reliability - self.resolution + self.uncertainty + self.within_bin


def brier_parts(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> BrierParts:
    """Return the parts of the Brier score over 20 bins of equal mass.

    Murphy's (1973) three parts sum to the Brier score only where all probabilities of a
    bin are the same. Those of a model never are, so a decomposition without the two
    terms within bins leaves a rest that depends on the bins and is nobody's; with them
    (Stephenson, Coelho and Jolliffe 2008) the sum is the Brier score, to rounding. All
    means are by weight. Reliability is biased upwards by the noise of the
    bins' click rates, and resolution by about as much.

    Raises:
        UndefinedMetricError: No rows, or a NaN logit.
    """
    return brier_parts_of_table(tabulate_scores(check_rows(labels, logits, weights)))


def brier_parts_of_table(
    table: ScoreTable,
    *,
    num_bins: int = NUM_BINS,
    bins: ReliabilityBins | None = None,
    probabilities: np.ndarray | None = None,
) -> BrierParts:
    """Return the parts of rows tabulated by logit; see ``brier_parts``.

    ``bins`` and ``probabilities`` are those of the table, if they are there already.
    """
    if probabilities is None:
        probabilities = probabilities_from_logits(table.scores)
    if bins is None:
        bins = reliability_bins(table, num_bins=num_bins, probabilities=probabilities)
    shares_N = bins.weight / bins.weight.sum()
    clicks = float(table.positives.sum())
    rate = clicks / (clicks + float(table.negatives.sum()))
    gaps_N = bins.mean_probability - bins.click_rate
    return BrierParts(
        reliability=float(np.sum(shares_N * gaps_N**2)),
        resolution=float(np.sum(shares_N * (bins.click_rate - rate) ** 2)),
        uncertainty=rate * (1 - rate),
        **_within_bins(table, bins, probabilities),
    )


def _within_bins(
    table: ScoreTable, bins: ReliabilityBins, probabilities: np.ndarray
) -> dict[str, float]:
    sizes_N = np.diff(np.append(bins.starts, len(table.scores)))
    means = np.repeat(bins.mean_probability, sizes_N)
    deviations = probabilities[bins.starts[0] :] - means
    weights = (table.positives + table.negatives)[bins.starts[0] :]
    total = bins.weight.sum()
    # Deviations from a bin's mean add up to 0, so that the labels' mean has no say.
    together = np.sum(table.positives[bins.starts[0] :] * deviations)
    return {
        "within_bin_variance": float(np.sum(weights * deviations**2) / total),
        "within_bin_covariance": float(2 * together / total),
    }
