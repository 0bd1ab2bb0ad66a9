"""Reliability bins filled from parts of a score table.

Shape suffixes: K = distinct scores of a part, N = bins.
"""

from __future__ import annotations

import numpy as np

from dlrm.metrics.brier_parts import BrierParts
from dlrm.metrics.calibration import ReliabilityBins
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.score_table import ScoreTable


class StreamedBins:
    """Sums over the rows of each of N bins: as ``reliability_bins``, part by part."""

    def __init__(self, num_bins: int) -> None:
        """Start with empty bins."""
        self._mass_N = np.zeros(num_bins)
        self._clicks_N = np.zeros(num_bins)
        self._squares_N = np.zeros(num_bins)
        # Weight times probability, times its square, and clicks times probability.
        self._promised_N = np.zeros(num_bins)
        self._promised_squares_N = np.zeros(num_bins)
        self._promised_clicks_N = np.zeros(num_bins)
        self._lowest_N = np.full(num_bins, np.inf)
        self._highest_N = np.full(num_bins, -np.inf)

    def add(self, table: ScoreTable, numbers_K: np.ndarray) -> None:
        """Add a part whose k-th score belongs into bin ``numbers_K[k]``."""
        size = len(self._mass_N)

        def sums(values_K: np.ndarray) -> np.ndarray:
            return np.bincount(numbers_K, values_K, minlength=size)

        p_K = probabilities_from_logits(table.scores)
        weights_K = table.positives + table.negatives
        self._mass_N += sums(weights_K)
        self._clicks_N += sums(table.positives)
        self._squares_N += sums(table.sums_of_squares())
        self._promised_N += sums(weights_K * p_K)
        self._promised_squares_N += sums(weights_K * p_K**2)
        self._promised_clicks_N += sums(table.positives * p_K)
        np.minimum.at(self._lowest_N, numbers_K, p_K)
        np.maximum.at(self._highest_N, numbers_K, p_K)

    def filled(self) -> ReliabilityBins:
        """Return the bins that have weight, ``starts`` empty: there is no table."""
        filled = self._mass_N > 0
        mass = self._mass_N[filled]
        return ReliabilityBins(
            weight=mass,
            mean_probability=self._promised_N[filled] / mass,
            click_rate=self._clicks_N[filled] / mass,
            lowest=self._lowest_N[filled],
            highest=self._highest_N[filled],
            num_effective=mass**2 / self._squares_N[filled],
            starts=np.zeros(0, dtype=np.int64),
        )

    def brier_parts(self) -> BrierParts:
        """Return the parts of the Brier score; see ``brier_parts``."""
        filled = self._mass_N > 0
        mass, clicks = self._mass_N[filled], self._clicks_N[filled]
        total = float(mass.sum())
        means, rates = self._promised_N[filled] / mass, clicks / mass
        rate = float(clicks.sum()) / total
        squares = self._promised_squares_N[filled] - mass * means**2
        together = self._promised_clicks_N[filled] - clicks * means
        return BrierParts(
            reliability=float(np.sum(mass * (means - rates) ** 2)) / total,
            resolution=float(np.sum(mass * (rates - rate) ** 2)) / total,
            uncertainty=rate * (1 - rate),
            within_bin_variance=float(squares.sum()) / total,
            within_bin_covariance=2 * float(together.sum()) / total,
        )
