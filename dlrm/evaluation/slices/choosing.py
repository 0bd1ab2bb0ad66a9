"""Which dimensions the evaluated rows are sliced by: those typed, or the kept columns.

Shape suffix: R = rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.errors import ConfigError
from dlrm.config.slices import SliceKind, SlicePart, SliceSpec, parse_slices
from dlrm.data.columns.parse_numbers import number_of
from dlrm.evaluation.bayes import BAYES_COLUMN, CAPPED_COLUMN
from dlrm.evaluation.slices.dealing import (
    by_activity,
    by_range,
    by_value,
    by_window,
    encode_values,
    seconds_of,
)
from dlrm.evaluation.slices.dimensions import Dimension, NoDimensionError, cross

MAX_AUTOMATIC = 12
_AUTOMATIC_BUCKETS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class RawRows:
    """The raw side of R evaluated rows."""

    kept: pa.Table
    """Their kept columns, row-aligned."""
    data: DataConfig
    training_counts: Mapping[str, int] | None = None
    """Training rows of each group, where those are at hand."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A dimension that these rows do not allow."""

    key: str
    reason: str


def check_columns(
    specs: Sequence[SliceSpec], data: DataConfig, names: Sequence[str]
) -> None:
    """Refuse slices by what is not among ``names``, the columns beside the rows.

    Raises:
        ConfigError: A column was not kept, or no time or group column is set.
    """
    for spec in specs:
        for part in spec.parts:
            reason = _why_not(part, data, names)
            if reason is not None:
                known = [name for name in names if not name.startswith("__")]
                raise ConfigError(
                    f"slices must be of columns kept beside the rows, but for "
                    f"'{spec.text}' {reason}. There are: {', '.join(known) or 'none'}. "
                    f"Name one of these, or add the column to data.keep and prepare "
                    f"anew."
                )


def deal(
    specs: Sequence[SliceSpec] | None, raw: RawRows, *, num_values: int
) -> tuple[list[Dimension], list[Skipped]]:
    """Deal the rows by each dimension, and say which of them the rows do not allow."""
    chosen = list(automatic(raw, num_values)) if specs is None else specs
    dimensions, skipped = [], []
    known: dict[str, Dimension] = {}
    for spec in chosen:
        try:
            parts = [_dealt(part, raw, num_values, known) for part in spec.parts]
        except NoDimensionError as reason:
            skipped.append(Skipped(spec.text, str(reason)))
            continue
        if len(parts) == 2:
            dimensions.append(cross(parts[0], parts[1], num_shown=num_values))
        else:
            dimensions.append(parts[0])
    return dimensions, skipped


def automatic(raw: RawRows, num_values: int) -> Iterator[SliceSpec]:
    """Yield the dimensions of rows for which none are typed, at most 12.

    Days, or hours where there is one day; the groups' activity; then the kept columns:
    numbers of many values in ten ranges, all others by value. A column that is no
    fraction and has a value for every second row names rows, and is left out.
    """
    texts: list[str | None] = []
    data, kept = raw.data, raw.kept
    if data.time_column in kept.column_names:
        texts.append(_window(raw))
    if data.group_column in kept.column_names:
        texts.append(SliceKind.activity.value)
    known = {data.id_column, data.time_column, data.label, BAYES_COLUMN, CAPPED_COLUMN}
    for name in kept.column_names:
        if name not in known and not name.startswith("__"):
            texts.append(_automatic_text(name, kept.column(name), num_values))
    chosen = [text for text in texts if text is not None][:MAX_AUTOMATIC]
    for text in chosen:
        # A column may be called as a crossing is typed.
        if text.startswith("column:"):
            name = text.removeprefix("column:")
            part = SlicePart(name, SliceKind.column, name)
            yield SliceSpec(name, (part,))
        elif text.startswith("bucket:"):
            name = text.removeprefix("bucket:").rpartition(":")[0]
            part = SlicePart(text, SliceKind.bucket, name, _AUTOMATIC_BUCKETS)
            yield SliceSpec(text, (part,))
        else:
            yield parse_slices([text], key="slices")[0]


def _window(raw: RawRows) -> str:
    assert raw.data.time_column is not None
    seconds = _seconds(raw)
    sound = seconds[np.isfinite(seconds)]
    one_day = len(sound) and sound.min() // 86_400 == sound.max() // 86_400
    return "time:hour" if one_day else "time:day"


def _automatic_text(name: str, values: pa.ChunkedArray, num_values: int) -> str | None:
    try:
        _, texts = encode_values(values)
    except NoDimensionError:
        return None
    present = [text for text in texts if text]
    if not present:
        return None
    bucket = f"bucket:{name}:{_AUTOMATIC_BUCKETS}"
    is_many = len(present) > num_values
    # Columns of text files come as text, numbers too.
    numbers = [number_of(text) for text in present] if is_many else []
    is_number = is_many and all(number is not None for number in numbers)
    if is_number and any(number % 1 for number in numbers if number is not None):
        return bucket
    if is_many and len(present) > len(values) // 2:
        return None
    return bucket if is_number else f"column:{name}"


def _why_not(part: SlicePart, data: DataConfig, names: Sequence[str]) -> str | None:
    """Say what a part lacks, None where it has all."""
    column = _column(part, data)
    if column is None:
        setting = "time" if part.kind is SliceKind.time else "group"
        return f"'{part.text}' needs data.{setting}_column, which is not set"
    if column not in names:
        return f"the column '{column}' is not there"
    return None


def _column(part: SlicePart, data: DataConfig) -> str | None:
    match part.kind:
        case SliceKind.time:
            return data.time_column
        case SliceKind.activity:
            return data.group_column
        case SliceKind.column | SliceKind.bucket:
            return part.column


def _dealt(
    part: SlicePart, raw: RawRows, num_values: int, known: dict[str, Dimension]
) -> Dimension:
    if part.text not in known:
        reason = _why_not(part, raw.data, raw.kept.column_names)
        if reason is not None:
            raise NoDimensionError(reason)
        known[part.text] = _deal_part(part, raw, num_values)
    return known[part.text]


def _deal_part(part: SlicePart, raw: RawRows, num_values: int) -> Dimension:
    if part.kind is SliceKind.time:
        return by_window(part.text, _seconds(raw), part.window)
    column = _column(part, raw.data)
    values = raw.kept.column(column)
    match part.kind:
        case SliceKind.activity:
            return by_activity(part.text, values, raw.training_counts)
        case SliceKind.bucket:
            return by_range(part.text, values, num_buckets=part.num_buckets)
        case _:
            return by_value(part.text, values, num_shown=num_values)


def _seconds(raw: RawRows) -> np.ndarray:
    column = raw.data.time_column
    assert column is not None
    values = raw.kept.column(column)
    return seconds_of(values, f"The column {column!r} (data.time_column)")
