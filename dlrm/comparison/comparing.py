"""Differences of every metric, of all rows and of slices: comparison.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlrm.comparison.matching import MatchedModels, Model
from dlrm.comparison.verdict import verdict
from dlrm.evaluation.slices.choosing import Skipped
from dlrm.evaluation.slices.dimensions import Dimension
from dlrm.metrics.grouped import gauc, require_value
from dlrm.metrics.paired import LEVEL, POWER, PairedDifference
from dlrm.metrics.paired_bootstrap import NUM_DRAWS
from dlrm.metrics.paired_metrics import (
    METHODS,
    LabelledRows,
    PairedDifferences,
    SeedScores,
    compare_models,
)
from dlrm.metrics.promises import holm
from dlrm.metrics.ranking import auc, pr_auc
from dlrm.metrics.summary import compute_metrics
from dlrm.metrics.undefined import UndefinedMetricError

COMPARED = (
    "auc", "gauc", "log_loss", "normalized_entropy", "brier", "calibration",
    "ece_debiased", "pr_auc", "accuracy",
)  # fmt: skip
"""The metrics of a comparison, in the order they are shown in."""
SLICE_METRICS = ("auc", "log_loss", "calibration")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How rows are drawn anew where no formula gives an interval."""

    num_draws: int = NUM_DRAWS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class _Judged:
    """A model with what it gave for the rows."""

    model: Model
    scores: SeedScores
    metrics: list[dict[str, Any]]
    """Of each seed; None where undefined."""


def compare(
    matched: MatchedModels,
    *,
    dimensions: Sequence[Dimension] = (),
    skipped: Sequence[Skipped] = (),
    sampling: Sampling,
) -> dict[str, Any]:
    """Compare every candidate with the baseline.

    Returns, as written to comparison.json::

        {"baseline": "dlrm",
         "models": [{"name": "dlrm", "role": "baseline" | "candidate",
                     "paths": ["outputs/dlrm-0", ...],
                     "metrics": {"auc": 0.71, ...}, "seeds": [{"auc": 0.71, ...}]}],
         "num_examples": 8000, "num_positives": 1200, "weighted": false,
         "group": "user" | null, "num_groups": 700 | null,
         "matched_by": "row", "num_clipped": 0,
         "level": 0.95, "power": 0.8, "num_draws": 500, "seed": 0,
         "comparisons": [{"candidate": "dcnv2", "verdict": ["...", ...],
             "differences": {"auc": DIFFERENCE, ...}, "undefined": {"gauc": "..."},
             "slices": [{"key": "device", "kind": "column", "slices": [
                 {"name": "tv", "rows": 900, "positives": 88,
                  "differences": {"auc": DIFFERENCE, ...}, "undefined": {}}]}]}],
         "skipped_slices": [{"key": "price", "reason": "..."}]}

    A model's ``metrics`` are means over its seeds, None where undefined. DIFFERENCE is
    ``{"baseline": ..., "candidate": ..., "difference": ..., "low": ..., "high": ...,
    "p_value": ..., "p_adjusted": ..., "standard_error": ..., "row_error": ...,
    "seed_error": ..., "df": ..., "detectable": ..., "method": "DeLong"}``; of ECE only
    the first three are there. ``p_adjusted`` is Holm's over the candidates, and in
    slices over all slices of the comparison. ``df`` is null where the errors have no
    doubt; ``detectable``, the true difference found with 80 % power, where they are 0.
    """
    rows = matched.rows
    baseline, *candidates = (
        _Judged(model, scores, _metrics_of_seeds(rows, scores))
        for model, scores in zip(matched.models, matched.scores, strict=True)
    )
    comparisons = [
        _comparison(rows, candidate, baseline, dimensions, sampling)
        for candidate in candidates
    ]
    _adjust_all(comparisons)
    result = {
        "baseline": baseline.model.name,
        "models": [
            _entry(baseline, "baseline"),
            *[_entry(candidate, "candidate") for candidate in candidates],
        ],
        **_described(matched, sampling),
        "comparisons": comparisons,
        "skipped_slices": [
            {"key": entry.key, "reason": entry.reason} for entry in skipped
        ],
    }
    for comparison in comparisons:
        comparison["verdict"] = verdict(result, comparison)
    return result


def _described(matched: MatchedModels, sampling: Sampling) -> dict[str, Any]:
    """Return the rows that were compared, and how."""
    rows = matched.rows
    return {
        "num_examples": len(rows.labels),
        "num_positives": int(np.count_nonzero(rows.labels)),
        "weighted": rows.weights is not None,
        "group": matched.group,
        "num_groups": None if rows.groups is None else _num_groups(rows.groups),
        "matched_by": matched.matched_by,
        "num_clipped": matched.num_clipped,
        "level": LEVEL,
        "power": POWER,
        "num_draws": sampling.num_draws,
        "seed": sampling.seed,
    }


def _comparison(
    rows: LabelledRows,
    candidate: _Judged,
    baseline: _Judged,
    dimensions: Sequence[Dimension],
    sampling: Sampling,
) -> dict[str, Any]:
    """Return one candidate's differences, of all rows and of slices."""
    found = compare_models(
        rows,
        candidate.scores,
        baseline.scores,
        num_draws=sampling.num_draws,
        seed=sampling.seed,
    )
    return {
        "candidate": candidate.model.name,
        "differences": _differences(
            found, candidate.metrics, baseline.metrics, rows.groups
        ),
        "undefined": found.undefined,
        "slices": [
            _slices(rows, dimension, candidate.scores, baseline.scores)
            for dimension in dimensions
        ],
    }


def _metrics_of_seeds(rows: LabelledRows, model: SeedScores) -> list[dict[str, Any]]:
    """Return the compared metrics of each seed; None where undefined."""
    found = []
    for number, scores in enumerate(model.scores):
        metrics: dict[str, Any] = dict.fromkeys(COMPARED)
        if model.logits is not None:
            logits = model.logits[number]
            every = compute_metrics(rows.labels, logits, rows.weights, rows.groups)
            metrics |= {name: every.get(name) for name in COMPARED}
        if model.logits is None or model.logits[number] is not scores:
            metrics |= _ranking(rows, scores)
        if rows.groups is None:
            del metrics["gauc"]
        found.append(metrics)
    return found


def _ranking(rows: LabelledRows, scores: np.ndarray) -> dict[str, float | None]:
    """Return what scores that are no logits are judged by: their order."""
    found: dict[str, float | None] = {}
    for name, compute in (("auc", auc), ("pr_auc", pr_auc)):
        try:
            found[name] = compute(rows.labels, scores, rows.weights)
        except UndefinedMetricError:
            found[name] = None
    if rows.groups is not None:
        try:
            by_group = gauc(rows.labels, scores, rows.groups, rows.weights)
            found["gauc"] = require_value(by_group)
        except UndefinedMetricError:
            found["gauc"] = None
    return found


def _means(seeds: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {
        name: None
        if any(seed[name] is None for seed in seeds)
        else float(np.mean([seed[name] for seed in seeds]))
        for name in seeds[0]
    }


def _entry(judged: _Judged, role: str) -> dict[str, Any]:
    model, seeds = judged.model, judged.metrics
    return {
        "name": model.name,
        "role": role,
        "paths": [str(path) for path in model.paths],
        "metrics": _means(seeds),
        "seeds": [dict(seed) for seed in seeds],
    }


def _differences(
    found: PairedDifferences,
    candidate: Sequence[Mapping[str, Any]],
    baseline: Sequence[Mapping[str, Any]],
    groups: np.ndarray | None,
) -> dict[str, dict[str, Any]]:
    """Put the metrics' values beside their differences, in the order of COMPARED."""
    mine, theirs = _means(candidate), _means(baseline)
    entries: dict[str, dict[str, Any]] = {}
    for name in COMPARED:
        if mine.get(name) is None or theirs.get(name) is None:
            continue
        entry: dict[str, Any] = {"baseline": theirs[name], "candidate": mine[name]}
        if name in found.found:
            entry |= _interval(found.found[name], name, groups)
        elif name == "ece_debiased":
            entry["difference"] = entry["candidate"] - entry["baseline"]
        else:
            continue
        entries[name] = entry
    return entries


def _interval(
    found: PairedDifference, name: str, groups: np.ndarray | None
) -> dict[str, Any]:
    low, high = found.interval
    method = METHODS[name]
    if groups is not None:
        method = {
            "DeLong": "Obuchowski",
            "paired t": "paired t, by group",
            "linearized ratio": "linearized ratio, by group",
            "bootstrap": "bootstrap of groups",
        }.get(method, method)
    return {
        "difference": found.difference,
        "low": low,
        "high": high,
        "p_value": found.p_value,
        "p_adjusted": found.p_value,
        "standard_error": found.error,
        "row_error": found.row_error,
        "seed_error": found.seed_error,
        "df": found.df if math.isfinite(found.df) else None,
        "detectable": found.detectable,
        "method": method,
    }


def _slices(
    rows: LabelledRows,
    dimension: Dimension,
    candidate: SeedScores,
    baseline: SeedScores,
) -> dict[str, Any]:
    entries = []
    for code, name in enumerate(dimension.names):
        inside = np.flatnonzero(dimension.codes == code)
        part = LabelledRows(
            rows.labels[inside],
            None if rows.weights is None else rows.weights[inside],
            None if rows.groups is None else rows.groups[inside],
        )
        mine, theirs = _part(candidate, inside), _part(baseline, inside)
        found = compare_models(part, mine, theirs, num_draws=0)
        differences = _differences(
            found,
            _metrics_of_seeds(part, mine),
            _metrics_of_seeds(part, theirs),
            rows.groups,
        )
        entries.append(
            {
                "name": name.text,
                "rows": len(inside),
                "positives": int(np.count_nonzero(part.labels)),
                "differences": {
                    metric: differences[metric]
                    for metric in SLICE_METRICS
                    if metric in differences
                },
                "undefined": {
                    metric: reason
                    for metric, reason in found.undefined.items()
                    if metric in SLICE_METRICS
                },
            }
        )
    return {"key": dimension.key, "kind": dimension.kind, "slices": entries}


def _part(model: SeedScores, inside: np.ndarray) -> SeedScores:
    logits = model.logits
    return SeedScores(
        [scores[inside] for scores in model.scores],
        None if logits is None else [values[inside] for values in logits],
    )


def _adjust_all(comparisons: Sequence[dict[str, Any]]) -> None:
    """Correct over the candidates, and in slices over all slices of a comparison."""
    _adjust([entry["differences"] for entry in comparisons])
    for entry in comparisons:
        _adjust(
            [part["differences"] for cut in entry["slices"] for part in cut["slices"]]
        )


def _adjust(entries: Sequence[Mapping[str, dict[str, Any]]]) -> None:
    """Correct each metric's p-values for the number of times it was looked at."""
    for name in COMPARED:
        looks = [entry[name] for entry in entries if "p_value" in entry.get(name, {})]
        adjusted = holm([look["p_value"] for look in looks])
        for look, p_value in zip(looks, adjusted, strict=True):
            look["p_adjusted"] = p_value


def _num_groups(groups: np.ndarray) -> int:
    return len(np.unique(np.ma.compressed(np.ma.asarray(groups))))
