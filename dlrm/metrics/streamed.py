"""The metrics of a score table that comes in parts, lowest scores first.

Shape suffix: K = distinct scores of a part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlrm.metrics.calibration import NUM_BINS, ece_debiased_of_bins, ece_of_bins
from dlrm.metrics.lift import TOP_SHARE
from dlrm.metrics.link import logits_from_probabilities
from dlrm.metrics.score_table import ScoreTable
from dlrm.metrics.streamed_bins import StreamedBins
from dlrm.metrics.sums import ClickSums, add_sums, sum_table
from dlrm.metrics.thresholds import Confusion, threshold_confusion_of_table
from dlrm.metrics.undefined import UndefinedMetricError


class StreamedMetrics:
    """All of ``compute_metrics`` but what is within groups, in memory that stays.

    The weight of either class in all parts together must be known before the first
    part, because places in the order of all rows are found from it.
    """

    def __init__(self, *, clicks: float, others: float) -> None:
        """Start with no part."""
        self._clicks, self._others = clicks, others
        self._clicks_below = self._others_below = 0.0
        self._wins = self._precision = self._captured = 0.0
        self._sums = ClickSums(0.0, 0.0, 0.0, 0.0, 0.0)
        self._calls = Confusion(0.0, 0.0, 0.0, 0.0)
        self._equal_mass = StreamedBins(NUM_BINS)
        self._equal_width = StreamedBins(NUM_BINS)

    def add(self, table: ScoreTable) -> None:
        """Add the part whose scores follow on those of the part before."""
        clicks_K = self._clicks_below + np.cumsum(table.positives)
        others_K = self._others_below + np.cumsum(table.negatives)
        middles_K = others_K - 0.5 * table.negatives
        self._wins += float(np.sum(table.positives * middles_K))
        self._add_to_top(table, clicks_K, others_K)
        self._add_to_bins(table, clicks_K + others_K)
        self._sums = add_sums([self._sums, sum_table(table)])
        self._calls += threshold_confusion_of_table(table, threshold=0.5)
        self._clicks_below, self._others_below = (
            float(clicks_K[-1]),
            float(others_K[-1]),
        )

    def _add_to_top(
        self, table: ScoreTable, clicks_K: np.ndarray, others_K: np.ndarray
    ) -> None:
        """Add to what is counted from the highest score down."""
        # Of the rows that score more; rounding must not make them fewer than none.
        found_K = np.maximum(self._clicks - clicks_K, 0.0)
        above_K = found_K + np.maximum(self._others - others_K, 0.0)
        weights_K = table.positives + table.negatives
        precision_K = (found_K + table.positives) / (above_K + weights_K)
        self._precision += float(np.sum(table.positives * precision_K))
        part_K = np.clip((TOP_SHARE * self._total - above_K) / weights_K, 0.0, 1.0)
        self._captured += float(np.sum(part_K * table.positives))

    def _add_to_bins(self, table: ScoreTable, ends_K: np.ndarray) -> None:
        middles_K = ends_K - 0.5 * (table.positives + table.negatives)
        # The same small step up as in ``reliability_bins``.
        numbers_K = (middles_K / self._total * NUM_BINS + 1e-9).astype(np.int64)
        self._equal_mass.add(table, np.minimum(numbers_K, NUM_BINS - 1))
        edges = logits_from_probabilities(np.arange(1, NUM_BINS) / NUM_BINS)
        self._equal_width.add(table, np.searchsorted(edges, table.scores, side="right"))

    @property
    def _total(self) -> float:
        return self._clicks + self._others

    def definitions(self) -> dict[str, Callable[[], float]]:
        """Return each metric's computation under its key of metrics.json."""
        sums, calls, bins = self._sums, self._calls, self._equal_mass.filled()
        parts = self._equal_mass.brier_parts()
        return {
            "auc": lambda: self._ratio(self._wins, self._clicks * self._others),
            "log_loss": sums.log_loss,
            "normalized_entropy": sums.normalized_entropy,
            "brier": sums.brier,
            "calibration": sums.calibration,
            "ece": lambda: ece_of_bins(bins),
            "pr_auc": lambda: self._ratio(self._precision, self._clicks),
            "accuracy": calls.accuracy,
            "rig": lambda: 1.0 - sums.normalized_entropy(),
            "brier_reliability": lambda: parts.reliability,
            "brier_resolution": lambda: parts.resolution,
            "brier_uncertainty": lambda: parts.uncertainty,
            "brier_within_bin": lambda: parts.within_bin,
            "ece_equal_width": lambda: ece_of_bins(self._equal_width.filled()),
            "ece_debiased": lambda: ece_debiased_of_bins(bins),
            "top_decile_capture": self._capture,
            "lift_top_decile": lambda: self._capture() / TOP_SHARE,
            "precision_at_0_5": calls.precision,
            "recall_at_0_5": calls.recall,
            "f1_at_0_5": calls.f1,
        }

    def _capture(self) -> float:
        return self._ratio(self._captured, self._clicks)

    def _ratio(self, part: float, whole: float) -> float:
        if self._clicks <= 0 or self._others <= 0:
            raise UndefinedMetricError("one class")
        return min(part / whole, 1.0)
