"""One model's scores of labelled rows, from a run or from any Parquet or CSV file.

Shape suffix: R = rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

from dlrm.config.compose import CONFIG_FILE
from dlrm.config.errors import DataError, RunError
from dlrm.config.keys import did_you_mean
from dlrm.config.strangers import parse_yaml
from dlrm.data.sources.files import missing_file
from dlrm.evaluation.evaluation import PREDICTIONS_FILE
from dlrm.metrics.link import clip_probabilities, logits_from_probabilities

NO_GROUP = "none"
"""As ``group``: rows are independent, whatever the run's config says."""
SCORE_KINDS = ("logit", "probability", "score")
CALIBRATED = "calibrated_logit"
"""What a run with a keep rate or a recalibrator is judged by, rather than ``logit``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnNames:
    """The columns to read, or None for the usual names.

    Where a file lacks a named column but has the usual one, that is taken: a run may be
    compared with a file of other names.
    """

    label: str | None = None
    logit: str | None = None
    probability: str | None = None
    score: str | None = None
    """Anything that rises with the chance of a click; only order can be judged."""
    weight: str | None = None
    id: str | None = None
    """What tells a row from all others; ``row`` where not given."""
    group: str | None = None
    """Whose rows may be correlated; the run's ``data.group_column`` if not given."""
    kept: tuple[str, ...] = ()
    """More columns that one file at least must have, to slice by."""


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """What one file holds of its R rows."""

    path: Path
    labels: np.ndarray
    """bool [R]"""
    scores: np.ndarray
    """float32 or float64 [R], as they were written: what ranks the rows."""
    logits: np.ndarray | None
    """[R]; None where the scores are no probabilities in disguise."""
    num_clipped: int
    """Bare probabilities of 0 or 1, moved by 2^-52 to have a finite log loss."""
    weights: np.ndarray | None = None
    ids: pa.Array | None = None
    kept: dict[str, pa.Array] = field(default_factory=dict)
    """Group and slice columns that the file has, by name."""
    group: str | None = None
    """The group column that was asked for, or is the run's own."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)


def predictions_of(path: Path, split: str, *, key: str) -> Path:
    """Return the file of a path as typed: a run's predictions, or the file itself.

    Raises:
        DataError: There is no such path.
        RunError: The folder holds no predictions of the split.
    """
    if not path.exists():
        raise missing_file(path, key=key)
    if not path.is_dir():
        return path
    for file in (
        path / "evaluation" / split / PREDICTIONS_FILE,
        path / PREDICTIONS_FILE,
    ):
        if file.is_file():
            return file
    found = sorted(f.parent.name for f in path.glob(f"evaluation/*/{PREDICTIONS_FILE}"))
    there = f"evaluations of {', '.join(found)}" if found else "no evaluation"
    raise RunError(
        f"{key} must have an evaluation of '{split}', but {path} has {there}. Type "
        f"dlrm evaluate run={path} split={split}, or name another one: split=NAME."
    )


def read_rows(path: Path, names: ColumnNames) -> ScoredRows:
    """Read one model's scores.

    Raises:
        DataError: The file is damaged, lacks a column, or a value in it is no label,
            score or weight.
    """
    available = _column_names(path)
    label = _column(path, names.label, "label", available)
    if label is None:
        raise _lacks(path, "label", "label", available)
    if names.id is not None and names.id not in available:
        raise _lacks(path, names.id, "id", available)
    row_id = names.id or ("row" if "row" in available else None)
    weight = _column(path, names.weight, "weight", available)
    score_kind, score_column = _score_column(path, names, available)
    group = names.group
    if group is None:
        group = _group_of_run(path, available)
    elif group == NO_GROUP:
        group = None
    kept = [c for c in (group, *names.kept) if c is not None and c in available]
    wanted = [label, score_column, weight, row_id, *kept]
    table = _read(path, list(dict.fromkeys(c for c in wanted if c is not None)))
    labels = _labels(path, label, table.column(label))
    scores = _floats(path, score_column, table.column(score_column))
    logits, num_clipped = _logits(path, score_column, score_kind, scores)
    weights = None
    if weight is not None:
        weights = _weights(path, weight, table.column(weight))
    return ScoredRows(
        path=path,
        labels=labels,
        scores=scores,
        logits=logits,
        num_clipped=num_clipped,
        weights=weights,
        ids=None if row_id is None else _flat(table.column(row_id)),
        kept={name: _flat(table.column(name)) for name in kept},
        group=group,
    )


def _flat(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = found.chunk(0) if found.num_chunks else pa.array([], found.type)
    if pa.types.is_dictionary(found.type):
        found = found.cast(found.type.value_type)
    return found


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as raw:
        return raw.read(4) == b"PAR1"


def _column_names(path: Path) -> list[str]:
    try:
        if _is_parquet(path):
            return list(pq.read_schema(path).names)
        with pyarrow.csv.open_csv(path) as reader:
            return list(reader.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        if _is_parquet(path):
            return pq.read_table(path, columns=columns)
        options = pyarrow.csv.ConvertOptions(include_columns=columns)
        return pyarrow.csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = str(error).strip().rstrip(".")
    return DataError(
        f"{path} must be a Parquet file, or a CSV file with a header, but reading it "
        f"fails: {reason}. Write it again, in one of the two."
    )


def _lacks(path: Path, name: str, key: str, available: Sequence[str]) -> DataError:
    return DataError(
        f"{path} must have the column '{name}', but it has {', '.join(available)}."
        f"{did_you_mean(name, list(available))} Name the column that has it: "
        f"{key}=COLUMN."
    )


def _column(
    path: Path, name: str | None, usual: str, available: Sequence[str]
) -> str | None:
    """Return the named column, or the usual one; None where neither was asked for.

    Raises:
        DataError: The named one is not there, nor the usual one.
    """
    for found in (name, usual):
        if found is not None and found in available:
            return found
    if name is not None:
        raise _lacks(path, name, usual, available)
    return None


def _score_column(
    path: Path, names: ColumnNames, available: Sequence[str]
) -> tuple[str, str]:
    """Return what kind of score there is, and its column."""
    for kind in SCORE_KINDS:
        name = getattr(names, kind)
        if name is not None and name in available:
            return kind, name
    asked = [name for kind in SCORE_KINDS if (name := getattr(names, kind))]
    if CALIBRATED in available:
        return "logit", CALIBRATED
    usual = [kind for kind in SCORE_KINDS if kind in available]
    if usual:
        return usual[0], usual[0]
    wanted = " or ".join(f"'{name}'" for name in asked or SCORE_KINDS)
    raise DataError(
        f"{path} must have a column {wanted}, but it has {', '.join(available)}. Name "
        f"the model's column: logit=, probability=, or score= where it is neither."
    )


def _labels(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    values = _numbers(path, name, column)
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        raise DataError(
            f"{path}: column '{name}' must be 0 or 1, but row {wrong[0]} has "
            f"{values[wrong[0]]:g} ({len(wrong):,} such rows). Name the labels' "
            f"column: label=COLUMN."
        )
    return values == 1


def _floats(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_float32(column.type) and column.null_count == 0:
        return np.asarray(column.to_numpy())
    return _numbers(path, name, column)


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    try:
        wide = pc.cast(column, pa.float64())
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: column '{name}' must hold numbers, but it holds {column.type}."
        ) from error
    values = np.asarray(pc.fill_null(wide, float("nan")).to_numpy(), dtype=np.float64)
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        raise DataError(
            f"{path}: column '{name}' must have a value in every row, but row "
            f"{missing[0]} has none ({len(missing):,} such rows). Leave such rows out "
            f"of all files."
        )
    return values


def _logits(
    path: Path, name: str, kind: str, scores: np.ndarray
) -> tuple[np.ndarray | None, int]:
    if kind == "logit":
        return scores, 0
    if kind == "score":
        return None, 0
    wide = scores.astype(np.float64)
    if len(wide) and (wide.min() < 0 or wide.max() > 1):
        raise DataError(
            f"{path}: column '{name}' must hold probabilities, from 0 to 1, but they "
            f"span {wide.min():g} to {wide.max():g}. Name it by logit={name}, or by "
            f"score={name} where it only ranks."
        )
    clipped = clip_probabilities(wide)
    return logits_from_probabilities(clipped.probabilities), clipped.num_clipped


def _weights(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray | None:
    values = _numbers(path, name, column)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        raise DataError(
            f"{path}: column '{name}' must hold weights of at least 0, but row "
            f"{wrong[0]} has {values[wrong[0]]:g} ({len(wrong):,} such rows)."
        )
    return None if len(values) and (values == values[0]).all() else values


def _group_of_run(path: Path, available: Sequence[str]) -> str | None:
    """Return the group column of the run that the file is an evaluation of, if kept."""
    file = path.parents[2] / CONFIG_FILE if len(path.parents) > 2 else None
    if file is None or not file.is_file():
        return None
    try:
        config = parse_yaml(file.read_text(encoding="utf-8"))
        found = config["data"]["group_column"]
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError):
        # A file of that name that is no run's: it says nothing of groups.
        return None
    return found if found in available else None
