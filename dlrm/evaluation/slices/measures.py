"""What is measured of one part of the rows. Shape suffix: R = rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlrm.metrics.calibration import calibration, ece
from dlrm.metrics.intervals import metric_intervals
from dlrm.metrics.likelihood import brier, log_loss, normalized_entropy
from dlrm.metrics.ranking import auc
from dlrm.metrics.rows import Rows
from dlrm.metrics.sums import sum_rows
from dlrm.metrics.undefined import UndefinedMetricError

_METRICS: dict[str, Callable[..., float]] = {
    "auc": auc,
    "log_loss": log_loss,
    "normalized_entropy": normalized_entropy,
    "brier": brier,
    "calibration": calibration,
    "ece": ece,
}
SLICE_METRICS = tuple(_METRICS)


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
    arrays = (rows.labels, rows.logits, rows.weights)
    metrics: dict[str, float | None] = {}
    undefined: dict[str, str] = {}
    for name, compute in _METRICS.items():
        try:
            metrics[name] = compute(*arrays)
        except UndefinedMetricError as reason:
            metrics[name], undefined[name] = None, str(reason)
    return {
        "rows": len(rows),
        "positives": int(np.count_nonzero(rows.labels)),
        **_sums(rows),
        "metrics": metrics,
        "undefined": undefined,
        **_intervals(rows),
    }


def _sums(rows: EvaluatedRows) -> dict[str, float | None]:
    counted = rows.weights > 0
    weights = rows.weights[counted].astype(np.float64)
    sums = sum_rows(Rows(rows.labels[counted] == 1, rows.logits[counted], weights))
    return {
        "weight": sums.weight,
        "positive_weight": sums.clicks,
        "promised": _finite(sums.promised),
        "log_loss_sum": _finite(sums.loss),
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
