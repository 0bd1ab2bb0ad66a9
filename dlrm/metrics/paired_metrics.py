"""Every metric's difference between two models on the same rows, with its errors.

Shape suffixes: S = seeds of one model, R = rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dlrm.metrics import intervals
from dlrm.metrics.clusters import cluster_codes, number_values
from dlrm.metrics.grouped import auc_by_group
from dlrm.metrics.likelihood import normalized_entropy
from dlrm.metrics.paired import (
    PairedDifference,
    Variance,
    ratio_difference,
    seed_variance,
    sum_clusters,
    variance_of_sum,
)
from dlrm.metrics.paired_auc import compare_auc
from dlrm.metrics.paired_bootstrap import (
    NUM_DRAWS,
    BootstrapRows,
    bootstrap_variances,
)
from dlrm.metrics.ranking import pr_auc
from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.undefined import UndefinedMetricError

METHODS = {
    "auc": "DeLong",
    "gauc": "paired, by group",
    "log_loss": "paired t",
    "normalized_entropy": "bootstrap",
    "brier": "paired t",
    "calibration": "linearized ratio",
    "pr_auc": "bootstrap",
    "accuracy": "paired t",
}
"""Where each row error comes from; with groups DeLong's is Obuchowski's."""

_MEANS: dict[str, Callable[[Rows], intervals.Estimate]] = {
    "log_loss": intervals.log_loss_estimate,
    "brier": intervals.brier_estimate,
    "calibration": intervals.calibration_estimate,
    "accuracy": intervals.accuracy_estimate,
}


_ROUNDING = 1e-13


@dataclass(frozen=True, slots=True)
class SeedScores:
    """What one model says of R rows, once for each of its S seeds."""

    scores: Sequence[np.ndarray]
    """S arrays [R], of any scale that rises with the chance of a click."""
    logits: Sequence[np.ndarray] | None = None
    """S arrays [R]; None where the scores are no probabilities in disguise."""


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """R rows that both models have scored."""

    labels: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    """Any ids [R], masked where a row has none; rows of a group may be correlated."""


@dataclass(frozen=True, slots=True)
class PairedDifferences:
    """The differences, candidate less baseline, and why some metrics have none."""

    found: dict[str, PairedDifference] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)


def compare_models(
    rows: LabelledRows,
    candidate: SeedScores,
    baseline: SeedScores,
    *,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> PairedDifferences:
    """Return the difference of every metric that has an honest interval.

    The AUC's row error is DeLong's, with groups Obuchowski's (``compare_auc``). Log
    loss, Brier score and accuracy are means, and calibration a ratio of sums: theirs is
    that of the rows' pulls (``intervals``), candidate's less baseline's, which for a
    mean is the paired t-test. ``gauc``, with groups, is a mean over groups: paired by
    group. PR-AUC and normalized entropy are drawn anew, ``num_draws`` times, rows or
    whole groups (``bootstrap_variances``); 0 leaves the two out. With groups, pulls are
    added up by group first, and so no row of a group is taken for independent.

    A model's value is the mean over its seeds; ``PairedDifference`` carries the seeds'
    variance, except where both have the very same seeds. ECE is left out: it is biased
    by noise, and no interval of it is known to cover.

    Raises:
        ValueError: A model has no scores, or they are not one a row, or a label is not
            0 or 1, or a weight is negative.
    """
    if not (candidate.scores and baseline.scores):
        raise ValueError("A model must have the scores of at least one seed.")
    compared = PairedDifferences()
    same = _say_the_same(candidate, baseline)

    def put(name: str, compute: Callable[[], PairedDifference]) -> None:
        try:
            found = compute()
            compared.found[name] = replace(found, seeds=Variance()) if same else found
        except UndefinedMetricError as reason:
            compared.undefined[name] = str(reason)

    put("auc", lambda: _auc(rows, candidate, baseline))
    for name, estimate in _MEANS.items():
        put(name, lambda estimate=estimate: _mean(rows, estimate, candidate, baseline))  # type: ignore[misc]
    if rows.groups is not None:
        put("gauc", lambda: _grouped(rows, candidate, baseline))
    if num_draws:
        _put_drawn(put, rows, candidate, baseline, num_draws=num_draws, seed=seed)
    return compared


def _say_the_same(candidate: SeedScores, baseline: SeedScores) -> bool:
    return len(candidate.scores) == len(baseline.scores) and all(
        np.array_equal(mine, theirs)
        for mine, theirs in zip(candidate.scores, baseline.scores, strict=True)
    )


def _auc(
    rows: LabelledRows, candidate: SeedScores, baseline: SeedScores
) -> PairedDifference:
    return compare_auc(
        rows.labels,
        candidate.scores,
        baseline.scores,
        weights=rows.weights,
        groups=rows.groups,
    )


def _mean(
    rows: LabelledRows,
    estimate: Callable[[Rows], intervals.Estimate],
    candidate: SeedScores,
    baseline: SeedScores,
) -> PairedDifference:
    found = [
        [estimate(seed) for seed in _seeds(rows, _logits(model))]
        for model in (candidate, baseline)
    ]
    pulls = [np.mean([seed.pulls for seed in model], axis=0) for model in found]
    values = [np.array([seed.value for seed in model]) for model in found]
    moves = sum_clusters(pulls[0] - pulls[1], _codes(rows))
    return _difference(values, variance_of_sum(moves))


def _grouped(
    rows: LabelledRows, candidate: SeedScores, baseline: SeedScores
) -> PairedDifference:
    """Pair the groups' AUCs; a group of one class speaks for neither model."""
    assert rows.groups is not None
    groups: np.ndarray = np.ma.asarray(rows.groups)
    inside = ~np.ma.getmaskarray(groups)
    if rows.weights is not None:
        inside &= np.asarray(rows.weights) > 0
    part = LabelledRows(
        np.asarray(rows.labels)[inside],
        None if rows.weights is None else np.asarray(rows.weights)[inside],
    )
    codes = number_values(np.ma.getdata(groups)[inside])[1]
    found = [
        [auc_by_group(seed, codes) for seed in _seeds(part, [s[inside] for s in m])]
        for m in (candidate.scores, baseline.scores)
    ]
    used = found[0][0].used
    if not used.any():
        raise UndefinedMetricError("no group with both classes")
    sizes = found[0][0].weights[used]
    aucs = [[seed.aucs[used] for seed in model] for model in found]
    gains = np.mean(aucs[0], axis=0) - np.mean(aucs[1], axis=0)
    values = [
        np.array([np.average(seed, weights=sizes) for seed in model]) for model in aucs
    ]
    return _difference(values, ratio_difference(gains * sizes, sizes).rows)


def _put_drawn(
    put: Callable[[str, Callable[[], PairedDifference]], None],
    rows: LabelledRows,
    candidate: SeedScores,
    baseline: SeedScores,
    *,
    num_draws: int,
    seed: int,
) -> None:
    """Put PR-AUC and normalized entropy, of one set of draws."""
    drawn: dict[str, Variance] = {}

    def variance(name: str) -> Variance:
        if not drawn:
            gains = None
            if candidate.logits is not None and baseline.logits is not None:
                gains = _log_loss_gains(rows, candidate.logits, baseline.logits)
            scored = [_seeds(rows, m.scores) for m in (candidate, baseline)]
            first = scored[0][0]
            first.require_both_classes()
            drawn.update(
                bootstrap_variances(
                    BootstrapRows(
                        first.labels, first.weights, _codes(rows), num_draws, seed
                    ),
                    log_loss_gains=gains,
                    candidate=[part.scores for part in scored[0]],
                    baseline=[part.scores for part in scored[1]],
                )
            )
        return drawn[name]

    def pr_auc_difference() -> PairedDifference:
        values = [
            np.array([pr_auc(rows.labels, s, rows.weights) for s in model.scores])
            for model in (candidate, baseline)
        ]
        return _difference(values, variance("pr_auc"))

    def entropy_difference() -> PairedDifference:
        values = [
            np.array([normalized_entropy(rows.labels, z, rows.weights) for z in logits])
            for logits in (_logits(candidate), _logits(baseline))
        ]
        return _difference(values, variance("normalized_entropy"))

    put("pr_auc", pr_auc_difference)
    put("normalized_entropy", entropy_difference)


def _log_loss_gains(
    rows: LabelledRows, candidate: Sequence[np.ndarray], baseline: Sequence[np.ndarray]
) -> np.ndarray | None:
    """Return by how much a row's loss differs, means over seeds; None if infinite."""
    means = []
    for model in (candidate, baseline):
        losses = []
        for seed in _seeds(rows, model):
            wrong_way = np.where(seed.labels, -1.0, 1.0) * seed.scores
            small = np.exp(-np.abs(wrong_way))
            losses.append(np.maximum(wrong_way, 0.0) + np.log1p(small))
        means.append(np.mean(losses, axis=0))
    finite = all(np.isfinite(mean).all() for mean in means)
    return means[0] - means[1] if finite else None


def _difference(values: list[np.ndarray], over_rows: Variance) -> PairedDifference:
    difference = float(values[0].mean() - values[1].mean())
    noise = _ROUNDING * float(np.abs(np.concatenate(values)).max())
    if abs(difference) <= noise and over_rows.value <= noise**2:
        # One model's logits and its probabilities say the same but for rounding.
        return PairedDifference(0.0, Variance(), seed_variance(*values))
    return PairedDifference(difference, over_rows, seed_variance(*values))


def _seeds(rows: LabelledRows, model: Sequence[np.ndarray]) -> list[Rows]:
    return [check_rows(rows.labels, scores, rows.weights) for scores in model]


def _logits(model: SeedScores) -> Sequence[np.ndarray]:
    if model.logits is None:
        raise UndefinedMetricError("the scores are no probabilities")
    return model.logits


def _codes(rows: LabelledRows) -> np.ndarray | None:
    """Number the clusters of the rows that weigh something."""
    if rows.groups is None:
        return None
    groups = np.ma.asarray(rows.groups)
    if rows.weights is not None:
        groups = groups[np.asarray(rows.weights) > 0]
    return cluster_codes(groups, len(groups))
