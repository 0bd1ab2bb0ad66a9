"""All metrics of a set of predictions: the content of metrics.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlrm.metrics.calibration import calibration, ece_of_bins, reliability_bins
from dlrm.metrics.grouped import gauc, require_value
from dlrm.metrics.likelihood import brier, log_loss, normalized_entropy
from dlrm.metrics.ranking import auc_of_table, pr_auc_of_table
from dlrm.metrics.rows import Rows, as_clicks, check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.thresholds import accuracy
from dlrm.metrics.undefined import UndefinedMetricError

METRIC_NAMES = (
    "auc", "log_loss", "normalized_entropy", "brier", "calibration", "ece", "pr_auc",
    "accuracy",
)  # fmt: skip


def compute_metrics(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return every metric of R rows, all arrays [R], under the keys of metrics.json.

    ``num_examples`` and ``num_positives`` count rows, whatever they weigh. With
    ``groups`` (any ids; rows masked in a ``numpy.ma`` array have none) ``gauc`` and its
    counts come too. A metric without a value is None, and ``undefined`` then says why;
    it is absent where all metrics have one. Rows of weight 0 count in no metric.

    Raises:
        ValueError: Lengths differ, a label is not 0 or 1, or a weight is negative.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    found: dict[str, Any] = {
        "num_examples": len(labels),
        "num_positives": int(np.count_nonzero(as_clicks(labels))),
    }
    undefined: dict[str, str] = {}

    def put(name: str, compute: Callable[[], float]) -> None:
        try:
            found[name] = compute()
        except UndefinedMetricError as reason:
            found[name], undefined[name] = None, str(reason)

    try:
        rows = check_rows(labels, logits, weights)
    except UndefinedMetricError as reason:
        found |= dict.fromkeys(METRIC_NAMES)
        undefined |= dict.fromkeys(METRIC_NAMES, str(reason))
    else:
        for name, compute in _definitions(rows, tabulate_scores(rows)).items():
            put(name, compute)
    if groups is not None:
        found |= _grouped(labels, logits, weights, groups, undefined)
    if undefined:
        found["undefined"] = undefined
    return found


def _definitions(rows: Rows, table: ScoreTable) -> dict[str, Callable[[], float]]:
    row_arrays = (rows.labels, rows.scores, rows.weights)
    return {
        "auc": lambda: auc_of_table(table),
        "log_loss": lambda: log_loss(*row_arrays),
        "normalized_entropy": lambda: normalized_entropy(*row_arrays),
        "brier": lambda: brier(*row_arrays),
        "calibration": lambda: calibration(*row_arrays),
        "ece": lambda: ece_of_bins(reliability_bins(table)),
        "pr_auc": lambda: pr_auc_of_table(table),
        "accuracy": lambda: accuracy(*row_arrays),
    }


def _grouped(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray | None,
    groups: np.ndarray,
    undefined: dict[str, str],
) -> dict[str, Any]:
    try:
        result = gauc(labels, logits, groups, weights)
        counts = {
            "gauc_num_groups": result.num_groups,
            "gauc_num_groups_left_out": result.num_groups_left_out,
            "gauc_num_rows_left_out": result.num_rows_left_out,
        }
    except UndefinedMetricError as reason:
        undefined["gauc"] = str(reason)
        return {"gauc": None, "gauc_num_groups": 0}
    try:
        return {"gauc": require_value(result), **counts}
    except UndefinedMetricError as reason:
        undefined["gauc"] = str(reason)
        return {"gauc": None, **counts}
