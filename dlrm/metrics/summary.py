"""All metrics of a set of predictions: the content of metrics.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from dlrm.metrics.brier_parts import brier_parts_of_table
from dlrm.metrics.calibration import (
    ece_debiased_of_bins,
    ece_of_bins,
    equal_width_bins,
    reliability_bins,
)
from dlrm.metrics.group_table import GroupTable
from dlrm.metrics.grouped import gauc_of_table, require_value
from dlrm.metrics.lift import TOP_SHARE, top_capture_of_table
from dlrm.metrics.link import (
    clip_probabilities,
    logits_from_probabilities,
    probabilities_from_logits,
)
from dlrm.metrics.lists import hit_rate_of_table, mrr_of_table, ndcg_of_table
from dlrm.metrics.ranking import auc_of_table, pr_auc_of_table
from dlrm.metrics.score_table import ScoreTable
from dlrm.metrics.sums import sum_table
from dlrm.metrics.tabulated import Tabulated, tabulate
from dlrm.metrics.thresholds import threshold_confusion_of_table
from dlrm.metrics.undefined import UndefinedMetricError

METRIC_NAMES = (
    "auc", "log_loss", "normalized_entropy", "brier", "calibration", "ece", "pr_auc",
    "accuracy", "rig", "brier_reliability", "brier_resolution", "brier_uncertainty",
    "brier_within_bin", "ece_equal_width", "ece_debiased", "top_decile_capture",
    "lift_top_decile", "precision_at_0_5", "recall_at_0_5", "f1_at_0_5",
)  # fmt: skip
GROUP_METRIC_NAMES = ("gauc", "gauc_by_clicks", "ndcg_at_10", "mrr", "hit_rate_at_10")
LIST_LENGTH = 10
"""Places of a group's list that NDCG and the hit rate look at."""

Definitions: TypeAlias = dict[str, Callable[[], float]]


def compute_metrics(
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return every metric of R rows, all arrays [R], under the keys of metrics.json.

    ``num_examples`` and ``num_positives`` count rows, whatever they weigh. With
    ``groups`` (any ids; rows masked in a ``numpy.ma`` array have none) the metrics
    within groups and their counts come too. A metric without a value is None, and
    ``undefined`` then says why; it is absent where all metrics have one. Rows of weight
    0 count in no metric.

    Rows are sorted once by logit and once by group and logit; all else is sums over
    distinct logits.

    Raises:
        ValueError: Lengths differ, a label is not 0 or 1, or a weight is negative.
    """
    return measure(tabulate(labels, logits, weights, groups))


def compute_metrics_of_probabilities(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the same of a model that gives probabilities and no logits.

    ``num_clipped`` comes with them: rows whose probability is 0 or 1, or within 2^-52
    of that, and whose log loss is therefore that of a probability clipped to
    [2^-52, 1 - 2^-52]. Every other metric takes probabilities as they are.

    Raises:
        ValueError: As ``compute_metrics``, or a probability is outside [0, 1].
    """
    logits = logits_from_probabilities(probabilities)
    # The least and the greatest logit that clipped probabilities can have.
    ends = logits_from_probabilities(clip_probabilities(np.arange(2)).probabilities)
    found = measure(tabulate(labels, logits, weights, groups), clipped_to=tuple(ends))
    counted = slice(None) if weights is None else np.asarray(weights) > 0
    clipped = clip_probabilities(np.asarray(probabilities)[counted])
    return found | {"num_clipped": clipped.num_clipped}


def measure(
    rows: Tabulated, *, clipped_to: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return the metrics of tabulated rows; see ``compute_metrics``.

    ``clipped_to`` are the least and greatest logit that log loss is to see.
    """
    found: dict[str, Any] = {
        "num_examples": rows.num_examples,
        "num_positives": rows.num_positives,
    }
    undefined: dict[str, str] = {}
    reason = rows.why_undefined()
    if reason is not None:
        _put_none(METRIC_NAMES, reason, found, undefined)
        if rows.grouped:
            _put_none(GROUP_METRIC_NAMES, reason, found, undefined)
            found["gauc_num_groups"] = 0
    else:
        assert rows.scores is not None
        _put(_definitions(rows.scores, clipped_to), found, undefined)
        if rows.groups is not None:
            _put_grouped(rows.groups, found, undefined)
    if undefined:
        found["undefined"] = undefined
    return found


def _put(
    definitions: Definitions, found: dict[str, Any], undefined: dict[str, str]
) -> None:
    for name, compute in definitions.items():
        try:
            found[name] = compute()
        except UndefinedMetricError as reason:
            found[name], undefined[name] = None, str(reason)


def _put_none(
    names: tuple[str, ...],
    reason: str,
    found: dict[str, Any],
    undefined: dict[str, str],
) -> None:
    found |= dict.fromkeys(names)
    undefined |= dict.fromkeys(names, reason)


def _definitions(
    table: ScoreTable, clipped_to: tuple[float, float] | None
) -> Definitions:
    sums = sum_table(table)
    losses = sums
    if clipped_to is not None:
        scores = np.clip(table.scores, *clipped_to)
        losses = sum_table(replace(table, scores=scores))
    probabilities = probabilities_from_logits(table.scores)
    bins = reliability_bins(table, probabilities=probabilities)
    widths = equal_width_bins(table, probabilities=probabilities)
    parts = brier_parts_of_table(table, bins=bins, probabilities=probabilities)
    calls = threshold_confusion_of_table(table, threshold=0.5)
    return {
        "auc": lambda: auc_of_table(table),
        "log_loss": losses.log_loss,
        "normalized_entropy": losses.normalized_entropy,
        "brier": sums.brier,
        "calibration": sums.calibration,
        "ece": lambda: ece_of_bins(bins),
        "pr_auc": lambda: pr_auc_of_table(table),
        "accuracy": calls.accuracy,
        "rig": lambda: 1.0 - losses.normalized_entropy(),
        "brier_reliability": lambda: parts.reliability,
        "brier_resolution": lambda: parts.resolution,
        "brier_uncertainty": lambda: parts.uncertainty,
        "brier_within_bin": lambda: parts.within_bin,
        "ece_equal_width": lambda: ece_of_bins(widths),
        "ece_debiased": lambda: ece_debiased_of_bins(bins),
        "top_decile_capture": lambda: top_capture_of_table(table),
        "lift_top_decile": lambda: top_capture_of_table(table) / TOP_SHARE,
        "precision_at_0_5": calls.precision,
        "recall_at_0_5": calls.recall,
        "f1_at_0_5": calls.f1,
    }


def _put_grouped(
    table: GroupTable, found: dict[str, Any], undefined: dict[str, str]
) -> None:
    result = gauc_of_table(table)
    by_clicks = gauc_of_table(table, by="clicks")
    _put({"gauc": lambda: require_value(result)}, found, undefined)
    found |= {
        "gauc_num_groups": result.num_groups,
        "gauc_num_groups_left_out": result.num_groups_left_out,
        "gauc_num_rows_left_out": result.num_rows_left_out,
    }
    definitions: Definitions = {
        "gauc_by_clicks": lambda: require_value(by_clicks),
        "ndcg_at_10": lambda: ndcg_of_table(table, k=LIST_LENGTH),
        "mrr": lambda: mrr_of_table(table),
        "hit_rate_at_10": lambda: hit_rate_of_table(table, k=LIST_LENGTH),
    }
    _put(definitions, found, undefined)
