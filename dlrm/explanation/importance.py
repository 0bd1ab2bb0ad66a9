"""Permutation importance: how much a model loses without a feature's own values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlrm.config.progress import Progress
from dlrm.data.storage.feature_values import FeaturePlace, with_values_of
from dlrm.explanation.costs import FeatureCost
from dlrm.explanation.sample import Sample
from dlrm.explanation.scorer import Scorer
from dlrm.metrics.likelihood import log_loss
from dlrm.metrics.permuted import auc_change, draw_donors, log_loss_change
from dlrm.metrics.ranking import auc
from dlrm.metrics.undefined import UndefinedMetricError

MIB = 2**20
CONFIDENCE = 0.95
NUM_LEAST = 3
"""Features of the least gain per MiB that the prune list names."""


def measure_importance(
    scorer: Scorer,
    sample: Sample,
    places: Sequence[FeaturePlace],
    costs: dict[str, FeatureCost],
    *,
    repeats: int,
    seed: int,
) -> dict[str, Any]:
    """Return the content of ``importance.json``, the names of run and split left out.

    Logits are judged as in an evaluation: corrected by the keep rate and the run's
    recalibrator, where there are such.

    ``rows``, ``split_rows``, ``repeats``, ``seed``, ``confidence``; ``num_clusters``,
    null where rows are taken to be independent; ``log_loss`` and ``auc`` of the rows as
    they are (null where undefined); ``features``, the greatest change in log loss
    first; and ``prune``. A feature has

    - ``feature`` and ``kind``, ``dense`` or ``sparse``;
    - ``log_loss`` and ``auc``: ``change`` (above 0: the feature helps),
      ``standard_error``, ``low``, ``high``, ``covers_zero``; null where undefined, and
      ``undefined`` then holds the reason by metric;
    - ``lookups_per_row``, ``bytes`` of all its tables with optimizer state,
      ``freed_bytes`` of those that no other feature reads, ``tables``;
    - ``gain_per_mib``: the change in log loss over the MiB freed; null without any.

    ``prune`` names a ``feature``, a ``reason`` and ``freed_bytes``: first those whose
    log loss interval is not above 0, most bytes first, then the least gains per MiB.
    """
    rows, weights, clusters = sample.rows, sample.weights, sample.clusters
    donors = draw_donors(len(rows), repeats=repeats, seed=seed, weights=weights)
    base = sample.judged(scorer.logits(rows)).logits
    entries = []
    with Progress(len(places), "importance", "features") as progress:
        for place in places:
            mixed = (with_values_of(rows, place, rows, donor) for donor in donors)
            permuted = [sample.judged(scorer.logits(others)).logits for others in mixed]
            changes = _changes(
                rows.labels,
                base,
                np.stack(permuted),
                donors,
                weights=weights,
                clusters=clusters,
            )
            entries.append(_entry(place, changes, costs[place.name]))
            progress.update()
    entries.sort(key=_change_of, reverse=True)
    return {
        "rows": len(rows),
        "split_rows": sample.split_rows,
        "repeats": repeats,
        "seed": seed,
        "confidence": CONFIDENCE,
        "num_clusters": None if clusters is None else int(np.unique(clusters).size),
        "log_loss": _or_none(lambda: log_loss(rows.labels, base, weights)),
        "auc": _or_none(lambda: auc(rows.labels, base, weights)),
        "features": entries,
        "prune": prune_list(entries),
    }


def prune_list(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what could go, of the ``features`` of ``measure_importance``."""
    known = [entry for entry in entries if entry["log_loss"] is not None]
    useless = [entry for entry in known if entry["log_loss"]["low"] <= 0]
    useless.sort(key=lambda entry: -entry["freed_bytes"])
    useful = [
        entry
        for entry in known
        if entry["log_loss"]["low"] > 0 and entry["gain_per_mib"] is not None
    ]
    useful.sort(key=lambda entry: entry["gain_per_mib"])
    found = [
        (
            entry,
            "no gain shown: the interval covers 0"
            if entry["log_loss"]["covers_zero"]
            else "the model is better without its values",
        )
        for entry in useless
    ]
    found += [(entry, "least gain per MiB") for entry in useful[:NUM_LEAST]]
    return [
        {
            "feature": entry["feature"],
            "reason": reason,
            "freed_bytes": entry["freed_bytes"],
        }
        for entry, reason in found
    ]


def _changes(
    labels: np.ndarray,
    base: np.ndarray,
    permuted: np.ndarray,
    donors: np.ndarray,
    *,
    weights: np.ndarray | None,
    clusters: np.ndarray | None,
) -> dict[str, Any]:
    """Return the changes by metric, and why one has no value."""
    found: dict[str, Any] = {"log_loss": None, "auc": None}
    undefined = {}
    for name, measure in (("log_loss", log_loss_change), ("auc", auc_change)):
        try:
            change = measure(
                labels,
                base,
                permuted,
                donors,
                weights=weights,
                clusters=clusters,
                confidence=CONFIDENCE,
            )
        except UndefinedMetricError as error:
            undefined[name] = str(error)
            continue
        values = dataclasses.asdict(change)
        found[name] = {
            "change": values.pop("value"),
            **values,
            "covers_zero": change.covers_zero,
        }
    return {**found, "undefined": undefined} if undefined else found


def _entry(
    place: FeaturePlace, changes: dict[str, Any], cost: FeatureCost
) -> dict[str, Any]:
    freed, gain = cost.freed, changes["log_loss"]
    return {
        "feature": place.name,
        "kind": "sparse" if place.dense is None else "dense",
        **changes,
        "lookups_per_row": cost.lookups,
        "bytes": cost.total,
        "freed_bytes": freed,
        "gain_per_mib": gain["change"] / (freed / MIB) if gain and freed else None,
        "tables": [table.record() for table in cost.tables],
    }


def _change_of(entry: dict[str, Any]) -> float:
    known = entry["log_loss"]
    return known["change"] if known is not None else float("-inf")


def _or_none(metric: Callable[[], float]) -> float | None:
    try:
        return metric()
    except UndefinedMetricError:
        return None
