"""One row of a split or of a new file, and what each feature adds to its logit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dlrm.config.errors import ConfigError
from dlrm.data.preparation.prepare import iter_encoded
from dlrm.data.sources import open_source
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.feature_values import (
    FeaturePlace,
    feature_places,
    take_rows,
)
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.transforms.fitted import FittedTransforms
from dlrm.evaluation.predictions import Predictions
from dlrm.explanation.readable import ReadableValues
from dlrm.explanation.sample import Sample, draw_sample
from dlrm.explanation.scorer import Scorer, check_clicks
from dlrm.explanation.shapley import explain_row
from dlrm.metrics.link import probabilities_from_logits
from dlrm.run import Run, open_dataset
from dlrm.scoring import input_config

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Which row: of a split, or of raw rows where ``input`` is given."""

    split: str
    row: int
    input: str | Path | pd.DataFrame | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    row: EncodedRows
    side: pa.Table
    label: float | None


def explanation_of_row(
    run: Run, checkpoint: Path, place: RowPlace, *, background: int, seed: int
) -> dict[str, Any]:
    """Say what each feature adds to a row's logit.

    Returns ``run``, ``checkpoint``, ``background`` (the split), ``background_rows``,
    ``seed``, ``row``, ``input`` (null for a row of the split), ``label`` (null where
    not known), ``logit``, the model's own, and ``probability``, corrected as in
    ``dlrm predict``; ``mean_logit`` of the background rows; and ``features``, the
    greatest contribution first, whose contributions sum to ``logit - mean_logit``:
    ``feature``, ``value`` as the model was given it, ``raw`` (what stood in the raw
    column where that was kept, else null), ``contribution``, ``standard_error``.

    Raises:
        UserError: The run's task, the split or the row does not fit.
    """
    check_clicks(run)
    dataset = open_dataset(run, split=place.split)
    places = feature_places(run.schema)
    sample = draw_sample(
        run,
        dataset,
        place.split,
        checkpoint=checkpoint,
        num_rows=_drawn_from(dataset, place.split, background),
        seed=seed,
    )
    found = _find(run, dataset, place)
    others = _background(sample, background, seed)
    scorer = Scorer.load(run, checkpoint)
    added = explain_row(scorer, places, found.row, others, seed=seed)
    named = isinstance(place.input, str | Path)
    readable = ReadableValues(run.folder, run.schema)
    entries = [
        {
            "feature": feature.name,
            "value": readable.value(found.row, feature, 0),
            "raw": _raw(found.side, feature),
            "contribution": value,
            "standard_error": error,
        }
        for feature, value, error in zip(
            places, added.values.tolist(), added.standard_errors.tolist(), strict=True
        )
    ]
    entries.sort(key=lambda entry: -abs(float(entry["contribution"] or 0.0)))
    return {
        "run": run.folder.name,
        "checkpoint": checkpoint.name,
        "background": place.split,
        "background_rows": len(others),
        "seed": seed,
        "row": place.row,
        "input": None
        if place.input is None
        else str(place.input)
        if named
        else "a DataFrame",
        "label": found.label,
        "logit": added.logit,
        "probability": _probability(sample, found, added.logit),
        "mean_logit": added.mean_logit,
        "features": entries,
    }


def _find(run: Run, dataset: Dataset, place: RowPlace) -> _Found:
    if place.input is None:
        total = dataset.schema.splits[place.split].num_rows
        if place.row >= total:
            raise _no_such_row(place, total, f"split '{place.split}'")
        row = dataset.split(place.split).gather(np.array([place.row]))
        side = _side_row(dataset, place)
        return _Found(row, side, float(row.labels[0]))
    data = input_config(run.config.data, place.input)
    frame = None if isinstance(place.input, str | Path) else place.input
    source = open_source(data, frame, with_labels=False)
    transforms, start = FittedTransforms.load(run.folder), 0
    for encoded, side in iter_encoded(data, transforms, source, False):
        at = place.row - start
        if at < len(encoded):
            row = take_rows(encoded, np.array([at]))
            return _Found(row, side.slice(at, 1), None)
        start += len(encoded)
    raise _no_such_row(place, start, "input")


def _side_row(dataset: Dataset, place: RowPlace) -> pa.Table:
    """Return the row's kept columns, without holding those of all rows."""
    start = 0
    for part in dataset.side_batches(place.split):
        if place.row < start + len(part):
            return pa.Table.from_batches([part.slice(place.row - start, 1)])
        start += len(part)
    raise AssertionError("the split has as many rows as it says")


def _no_such_row(place: RowPlace, total: int, where: str) -> ConfigError:
    return ConfigError(
        f"row must be the number of a row of {where}, from 0 to {total - 1:,}, but it "
        f"is {place.row:,}."
    )


def _drawn_from(dataset: Dataset, split: str, background: int) -> int:
    """Return how many rows to draw; more where they are then chosen by weight."""
    return min(max(100 * background, 10_000), max(dataset.schema.num_rows(split), 1))


def _background(sample: Sample, num_rows: int, seed: int) -> EncodedRows:
    """Draw background rows; each as often as it counts."""
    random, weights = np.random.default_rng([seed, 1]), sample.weights
    if weights is None:
        size = min(num_rows, len(sample.rows))
        return take_rows(
            sample.rows, random.choice(len(sample.rows), size, replace=False)
        )
    shares = weights.astype(np.float64) / weights.sum(dtype=np.float64)
    return take_rows(sample.rows, random.choice(len(shares), num_rows, p=shares))


def _probability(sample: Sample, found: _Found, logit: float) -> float:
    """Return the row's probability as ``dlrm predict`` gives it."""
    own = Predictions(
        np.zeros(1, dtype=np.int64),
        np.array([logit], dtype=np.float32),
        found.row.labels,
        found.row.weights,
    )
    judged = sample.correction.apply(own, found.side, sampled=False)
    return float(probabilities_from_logits(judged.logits)[0])


def _raw(side: pa.Table, place: FeaturePlace) -> str | None:
    column = place.fitted.feature.column or place.name
    if column not in side.column_names:
        return None
    value = side[column][0].as_py()
    return None if value is None else str(value)
