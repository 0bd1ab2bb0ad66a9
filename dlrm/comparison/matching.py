"""Several files brought to the same rows, or refused. Shape suffix: R = rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.comparison.sources import ColumnNames, ScoredRows, predictions_of, read_rows
from dlrm.config.errors import DataError
from dlrm.metrics.paired_metrics import LabelledRows, SeedScores

_NUM_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Model:
    """A model to compare: its name, and one path for each of its seeds."""

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class MatchedModels:
    """R rows that all models have scored, in one order."""

    rows: LabelledRows
    models: tuple[Model, ...]
    """The baseline first."""
    scores: tuple[SeedScores, ...]
    group: str | None
    matched_by: str
    """How rows were told apart: the id column, or ``place in the file``."""
    num_clipped: int
    kept: pa.Table
    """Their raw columns: the group, and what they are sliced by."""


def match_models(
    models: Sequence[Model], names: ColumnNames, *, split: str
) -> MatchedModels:
    """Read all files and bring their rows to the order of the baseline's first one.

    Rows are told apart by the id column (``row`` if not given), or, in files without
    any, by their place. Weights and raw columns come from the first file that has
    them.

    Raises:
        DataError: A file cannot be read, or does not hold the same rows with the same
            labels, groups and weights.
        RunError: A run has no evaluation of the split.
    """
    baseline = models[0]
    keys = ["baseline", *(["candidate"] * (len(models) - 1))]
    found = [
        [read_rows(predictions_of(path, split, key=key), names) for path in model.paths]
        for key, model in zip(keys, models, strict=True)
    ]
    first = found[0][0]
    if len(first) == 0:
        raise DataError(f"{first.path} must hold rows, but it has none.")
    places = [[_places(first, file) for file in files] for files in found]
    flat = [
        (file, place)
        for files, there in zip(found, places, strict=True)
        for file, place in zip(files, there, strict=True)
    ]
    weights = _common_weights(flat)
    group = next((file.group for file, _ in flat if file.group is not None), None)
    kept = {
        name: _common_column(name, flat)
        for name in dict.fromkeys([*([group] if group else []), *names.kept])
    }
    scores = tuple(
        _seed_scores(files, there) for files, there in zip(found, places, strict=True)
    )
    groups = None if group is None else _codes(kept[group])
    by_place = any(file.ids is None for file, _ in flat)
    return MatchedModels(
        rows=LabelledRows(first.labels, weights, groups),
        models=(baseline, *models[1:]),
        scores=scores,
        group=group,
        matched_by="place in the file" if by_place else names.id or "row",
        num_clipped=sum(file.num_clipped for file, _ in flat),
        kept=pa.table(kept),
    )


def _places(first: ScoredRows, other: ScoredRows) -> np.ndarray | None:
    """Return where in ``other`` the rows of ``first`` are; None where in their order.

    Raises:
        DataError: They are not the same rows with the same labels.
    """
    places = None
    if first.ids is None or other.ids is None:
        if len(first) != len(other):
            raise DataError(
                f"All files must hold the same rows, but {first.path} has "
                f"{len(first):,} and {other.path} has {len(other):,}. Name the column "
                f"that tells rows apart to see which differ: id=COLUMN."
            )
    elif first is not other:
        places = _places_by_id(first, other)
    else:
        _check_unique(first)
    labels = other.labels if places is None else other.labels[places]
    wrong = np.flatnonzero(labels != first.labels)
    if len(wrong):
        raise DataError(
            f"All files must give a row the same label, but {other.path} gives "
            f"{len(wrong):,} of {len(first):,} another one than {first.path} does: "
            f"{_some_rows(first, wrong)}. Compare models on the same rows of the same "
            f"data."
        )
    return places


def _places_by_id(first: ScoredRows, other: ScoredRows) -> np.ndarray | None:
    assert first.ids is not None
    assert other.ids is not None
    _check_unique(other)
    left, right = first.ids, other.ids
    if left.type != right.type:
        left, right = left.cast(pa.string()), right.cast(pa.string())
    if left.equals(right):
        return None
    places = pc.index_in(left, value_set=right)
    missing = pc.filter(left, pc.is_null(places))
    extra = pc.filter(right, pc.invert(pc.is_in(right, value_set=left)))
    problems = []
    for ids, here, there in ((missing, first, other), (extra, other, first)):
        if len(ids):
            problems.append(
                f"{len(ids):,} of {here.path} are not in {there.path} ({_some(ids)})"
            )
    if problems:
        raise DataError(
            f"All files must hold the same rows, but {' and '.join(problems)}. "
            f"Evaluate all models on one split or file."
        )
    return np.asarray(places.to_numpy(zero_copy_only=False)).astype(np.int64)


def _check_unique(rows: ScoredRows) -> None:
    assert rows.ids is not None
    if rows.ids.null_count:
        raise DataError(
            f"{rows.path}: every row must have an id, but {rows.ids.null_count:,} have "
            f"none. Name another column: id=COLUMN."
        )
    counts = pc.value_counts(rows.ids)
    repeated = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise DataError(
            f"{rows.path}: every row must have an id of its own, but {len(repeated):,} "
            f"ids stand in several rows ({_some(repeated)}). Name another column: "
            f"id=COLUMN."
        )


def _some(ids: pa.Array) -> str:
    shown = ", ".join(str(value) for value in ids[:_NUM_SHOWN].to_pylist())
    return f"{shown}, ..." if len(ids) > _NUM_SHOWN else shown


def _some_rows(first: ScoredRows, rows: np.ndarray) -> str:
    if first.ids is not None:
        return f"ids {_some(first.ids.take(pa.array(rows[: _NUM_SHOWN + 1])))}"
    shown = ", ".join(str(row) for row in rows[:_NUM_SHOWN])
    return f"rows {shown}{', ...' if len(rows) > _NUM_SHOWN else ''}"


def _common_weights(
    files: Sequence[tuple[ScoredRows, np.ndarray | None]],
) -> np.ndarray | None:
    """Return the rows' weights; files without any take those of the others."""
    found: tuple[ScoredRows, np.ndarray] | None = None
    for file, places in files:
        if file.weights is None:
            continue
        weights = file.weights if places is None else file.weights[places]
        if found is None:
            found = file, weights
        elif not np.allclose(found[1], weights, rtol=1e-6, atol=0.0):
            number = np.count_nonzero(~np.isclose(found[1], weights, rtol=1e-6, atol=0))
            raise DataError(
                f"All files must give a row the same weight, but {file.path} gives "
                f"{number:,} another one than {found[0].path} does. Name one column "
                f"that all have: weight=COLUMN."
            )
    return None if found is None else found[1]


def _common_column(
    name: str, files: Sequence[tuple[ScoredRows, np.ndarray | None]]
) -> pa.Array:
    """Return a raw column of the first file that has it.

    Raises:
        DataError: None has it.
    """
    for file, places in files:
        if name in file.kept:
            column = file.kept[name]
            return column if places is None else column.take(pa.array(places))
    raise DataError(
        f"The column '{name}' must be in one of the files at least, but it is in none: "
        f"{', '.join(str(file.path) for file, _ in files[:2])}. A run's predictions "
        f"have the columns of data.keep."
    )


def _codes(column: pa.Array) -> np.ndarray:
    """Number the groups; rows without one are masked."""
    indices = pc.dictionary_encode(column).indices
    return np.ma.array(
        pc.fill_null(indices, 0).to_numpy(zero_copy_only=False),
        mask=pc.is_null(column).to_numpy(zero_copy_only=False),
    )


def _seed_scores(
    files: Sequence[ScoredRows], places: Sequence[np.ndarray | None]
) -> SeedScores:
    def in_order(values: np.ndarray, place: np.ndarray | None) -> np.ndarray:
        return values if place is None else values[place]

    pairs = list(zip(files, places, strict=True))
    logits = [
        in_order(file.logits, place) for file, place in pairs if file.logits is not None
    ]
    return SeedScores(
        [in_order(file.scores, place) for file, place in pairs],
        logits if len(logits) == len(files) else None,
    )
