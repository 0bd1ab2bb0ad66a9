"""What is measured of one part of the rows. Shape suffix: R = rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlrm.metrics.calibration import ece_of_bins, reliability_bins
from dlrm.metrics.intervals import metric_intervals
from dlrm.metrics.ranking import auc_of_table
from dlrm.metrics.rows import Rows
from dlrm.metrics.score_table import ScoreTable
from dlrm.metrics.sums import ClickSums, sum_rows, sum_table
from dlrm.metrics.tabulated import tabulate
from dlrm.metrics.undefined import UndefinedMetricError

SLICE_METRICS = (
    "auc", "log_loss", "normalized_entropy", "brier", "calibration", "ece",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EvaluatedRows:
    """Rows that a model has scored, arrays [R]; labels are 0 or 1."""

    labels: np.ndarray
    logits: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None
    """Codes of the rows that may depend on each other, masked where a row has none;
    None where all rows are taken as independent."""
    sampled: bool = False
    """Whether weights make up for non-clicks that were left out."""

    def __len__(self) -> int:
        """Return R."""
        return len(self.labels)

    def take(self, rows: np.ndarray) -> EvaluatedRows:
        """Return some of the rows, by number or as bools [R]."""
        return EvaluatedRows(
            self.labels[rows],
            self.logits[rows],
            self.weights[rows],
            None if self.groups is None else self.groups[rows],
            self.sampled,
        )


def measure(rows: EvaluatedRows) -> dict[str, Any]:
    """Return support, sums, metrics and intervals of some rows.

    ``rows`` and ``positives`` count rows, whatever they weigh; ``weight``,
    ``positive_weight``, ``promised`` (weighted sum of probabilities) and
    ``log_loss_sum`` are weighted sums, of which a dimension's slices have the total's.
    ``metrics`` has an entry for each of ``SLICE_METRICS``, None with its reason in
    ``undefined``; ``intervals`` is ``{metric: [low, high]}`` at 95 % and
    ``standard_errors`` ``{metric: error}``, of those that have one
    (``metric_intervals``).
    """
    table = tabulate(rows.labels, rows.logits, rows.weights)
    metrics: dict[str, float | None] = dict.fromkeys(SLICE_METRICS)
    undefined: dict[str, str] = {}
    if table.scores is None:
        undefined = dict.fromkeys(SLICE_METRICS, table.why_undefined() or "")
        sums = sum_rows(_counted(rows))
    else:
        sums = sum_table(table.scores)
        for name, compute in _definitions(table.scores, sums).items():
            try:
                metrics[name] = compute()
            except UndefinedMetricError as reason:
                undefined[name] = str(reason)
    return {
        "rows": len(rows),
        "positives": table.num_positives,
        **_weighted(sums, table.scale),
        "metrics": metrics,
        "undefined": undefined,
        **_intervals(rows),
    }


def _definitions(table: ScoreTable, sums: ClickSums) -> dict[str, Callable[[], float]]:
    return {
        "auc": lambda: auc_of_table(table),
        "log_loss": sums.log_loss,
        "normalized_entropy": sums.normalized_entropy,
        "brier": sums.brier,
        "calibration": sums.calibration,
        "ece": lambda: ece_of_bins(reliability_bins(table)),
    }


def _counted(rows: EvaluatedRows) -> Rows:
    counted = rows.weights > 0
    weights = rows.weights[counted].astype(np.float64)
    return Rows(rows.labels[counted] == 1, rows.logits[counted], weights)


def _weighted(sums: ClickSums, scale: float) -> dict[str, float | None]:
    return {
        "weight": sums.weight * scale,
        "positive_weight": sums.clicks * scale,
        "promised": _finite(sums.promised * scale),
        "log_loss_sum": _finite(sums.loss * scale),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _intervals(rows: EvaluatedRows) -> dict[str, dict[str, Any]]:
    found = metric_intervals(
        rows.labels, rows.logits, rows.weights, rows.groups, names=SLICE_METRICS
    )
    known = {name: found[name] for name in SLICE_METRICS if name in found}
    return {
        "intervals": {name: [own["low"], own["high"]] for name, own in known.items()},
        "standard_errors": {name: own["standard_error"] for name, own in known.items()},
    }
