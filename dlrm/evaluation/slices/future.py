"""Does a split let the model learn from rows later than those it is judged on?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.errors import ConfigError
from dlrm.data.columns.parse_numbers import parse_times
from dlrm.data.storage.dataset import Dataset


@dataclass(frozen=True, slots=True)
class FutureRows:
    """How the training rows lie in time to those of another split; epoch seconds."""

    split: str
    last_trained: float
    first_evaluated: float
    num_trained: int
    """Training rows that have a time."""
    num_later: int
    """Those of them later than the first evaluated row."""

    @property
    def leaks(self) -> bool:
        """Say whether a training row is later than an evaluated one."""
        return self.num_later > 0

    def record(self) -> dict[str, Any]:
        """Return the entry ``future`` of slices.json: the fields, and ``leaks``."""
        return asdict(self) | {"leaks": self.leaks}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> FutureRows:
        """Return what ``record`` was made of."""
        return cls(**{name: record[name] for name in record if name != "leaks"})

    def describe(self) -> str:
        """Say in a line what is wrong with the split."""
        return (
            f"{self.num_later:,} of {self.num_trained:,} training rows "
            f"({self.num_later / self.num_trained:.1%}) are later than the first row "
            f"of {self.split} ({_moment(self.first_evaluated)}), up to "
            f"{_moment(self.last_trained)}"
        )


def rows_of_the_future(
    training: Iterable[np.ndarray], evaluated: np.ndarray, *, split: str
) -> FutureRows | None:
    """Compare epoch seconds of two splits' rows; NaN is a row without a time.

    ``training`` is the training rows' part by part.

    A model that is to predict tomorrow must be judged on rows later than all that it
    has learned from: one that saw the same user's next hour has seen part of the
    answer. A training row of the very moment of the first evaluated one is no leak.
    Returns None where a split has no times.
    """
    found = evaluated[np.isfinite(evaluated)]
    if not len(found):
        return None
    first, last = float(found.min()), -math.inf
    num_trained = num_later = 0
    for seconds in training:
        trained = seconds[np.isfinite(seconds)]
        num_trained += len(trained)
        num_later += int(np.count_nonzero(trained > first))
        last = max(last, float(trained.max(initial=-math.inf)))
    if not num_trained:
        return None
    return FutureRows(
        split=split,
        last_trained=last,
        first_evaluated=first,
        num_trained=num_trained,
        num_later=num_later,
    )


def future_of_split(
    dataset: Dataset, data: DataConfig, *, split: str
) -> FutureRows | None:
    """Compare a split with the training rows, None where rows have no time."""
    column = data.time_column
    if split == "train" or column not in dataset.schema.kept_columns:
        return None
    if column is None or not dataset.schema.num_rows(split):
        return None
    return future_of_rows(dataset, data, dataset.side(split, [column]), name=split)


def future_of_rows(
    dataset: Dataset, data: DataConfig, side: pa.Table, *, name: str
) -> FutureRows | None:
    """Compare rows, by their side columns, with the training rows of a dataset.

    ``name`` is what the rows are called. None where there are no times.

    Raises:
        DataError: Values of the time column are no times.
    """
    column = data.time_column
    if column is None or column not in side.column_names:
        return None
    if column not in dataset.schema.kept_columns:
        return None
    what = f"The column {column!r} (data.time_column)"
    batches = dataset.side_batches("train", [column])
    return rows_of_the_future(
        (parse_times(batch.column(0), what).values for batch in batches),
        parse_times(side[column].combine_chunks(), what).values,
        split=name,
    )


def refuse_future(dataset: Dataset, data: DataConfig) -> None:
    """Refuse a dataset whose training rows are later than rows it is judged on.

    Raises:
        ConfigError: They are, or rows have no time to go by.
    """
    for split in ("valid", "test"):
        if dataset.schema.num_rows(split):
            refuse_known_future(future_of_split(dataset, data, split=split), data)


def refuse_known_future(found: FutureRows | None, data: DataConfig) -> None:
    """Refuse rows that training was ahead of, and those of which that is not known.

    Raises:
        ConfigError: They are such rows.
    """
    if found is None:
        raise ConfigError(
            "evaluation.forbid_future=true needs the times of the training rows and of "
            "those that are judged, in data.time_column, but there are none, or the "
            "run's dataset is gone. Set data.time_column, bring the dataset back, or "
            "leave evaluation.forbid_future out."
        )
    if found.leaks:
        raise ConfigError(
            f"With evaluation.forbid_future=true no training row may be later than a "
            f"row that is judged, but with data.split={data.split.value} "
            f"{found.describe()}. Set data.split=time, judge later rows, or leave "
            f"evaluation.forbid_future out."
        )


def _moment(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"
    return moment.strftime("%Y-%m-%d %H:%M:%S")
