"""Deal rows to slices: by value, range of numbers, window of time, or activity.

Shape suffixes: R = rows, G = groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.slices import TimeWindow
from dlrm.data.columns.parse_numbers import number_of, parse_times
from dlrm.evaluation.slices.dimensions import (
    MISSING,
    Dimension,
    NoDimensionError,
    SliceName,
    rank_and_cut,
)

MAX_WINDOWS = 400
_SECONDS = {TimeWindow.day: 86_400, TimeWindow.hour: 3_600}
_COUNTED = ("value", "count")
_ACTIVITY_EDGES = (0, 1, 5, 20, 100, 500)


def by_value(key: str, values: pa.ChunkedArray, *, num_shown: int) -> Dimension:
    """Make each of the ``num_shown`` most frequent values a slice.

    Null, NaN and the empty text are one slice, ``(missing)``.

    Raises:
        NoDimensionError: The column holds lists, which give a row several values.
    """
    codes, texts = encode_values(values)
    names = [
        SliceName(text, (text,)) if text else SliceName(MISSING, (MISSING,), "missing")
        for text in texts
    ]
    codes, shown = rank_and_cut(codes, names, num_shown=num_shown)
    facts = {"num_values": sum(text != "" for text in texts)}
    return Dimension(key, "column", codes, shown, facts)


def encode_values(values: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return each row's place, int32 [R], in a list of texts; "" is missing.

    Raises:
        NoDimensionError: The column holds lists or structures.
    """
    kind = values.type
    if pa.types.is_nested(kind):
        raise NoDimensionError(f"its rows hold {kind}, not one value each")
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    if len(values) == 0:
        return np.zeros(0, dtype=np.int32), []
    encoded = pc.dictionary_encode(values.combine_chunks(), null_encoding="encode")
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    raw = [_text(value) for value in encoded.dictionary.to_pylist()]
    texts = sorted(set(raw))
    place = {text: number for number, text in enumerate(texts)}
    merged = np.array([place[text] for text in raw], dtype=np.int32)
    return merged[encoded.indices.to_numpy(zero_copy_only=False)], texts


def count_values(parts: Iterable[pa.Array]) -> dict[str, int]:
    """Return the number of rows of each value, as a text; "" is missing.

    Parts are counted one by one, so that memory is that of one and of what differs.
    """
    known = pa.table({"value": pa.nulls(0), "count": pa.array([], pa.int64())})
    waiting: list[pa.Table] = []
    for part in parts:
        if pa.types.is_dictionary(part.type):
            part = part.cast(part.type.value_type)
        found = pc.value_counts(part)
        waiting.append(pa.table({"value": found.field(0), "count": found.field(1)}))
        if sum(map(len, waiting)) > len(known):
            known, waiting = _merged(known, waiting), []
    known = _merged(known, waiting)
    counts: Counter[str] = Counter()
    values, sizes = (known[name].to_pylist() for name in _COUNTED)
    for value, count in zip(values, sizes, strict=True):
        counts[_text(value)] += count
    return dict(counts)


def _merged(known: pa.Table, more: list[pa.Table]) -> pa.Table:
    tables = [table for table in (known, *more) if len(table)]
    if not tables:
        return known
    sums = pa.concat_tables(tables).group_by("value").aggregate([("count", "sum")])
    return sums.select(["value", "count_sum"]).rename_columns(list(_COUNTED))


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        # A whole-number column with a missing value comes as floats.
        return str(int(value))
    return str(value)


def by_range(key: str, values: pa.ChunkedArray, *, num_buckets: int) -> Dimension:
    """Cut a column's numbers at the quantiles of these rows.

    Range k of K ends with the least value that has k / K of the rows at or below it,
    and begins above the end of the one before. Ends that are equal make one range, so
    there can be fewer; ``edges`` are the least value and the ends. Rows without a
    finite number are one slice.

    Raises:
        NoDimensionError: No row has a number.
    """
    numbers = numbers_of(values)
    sound = np.isfinite(numbers)
    if not sound.any():
        raise NoDimensionError("none of its values is a number")
    shares = np.arange(1, num_buckets + 1) / num_buckets
    found = numbers[sound]
    ends = np.unique(np.quantile(found, shares, method="inverted_cdf"))
    edges = np.concatenate([[found.min()], ends])
    codes = np.full(len(numbers), len(ends), dtype=np.int64)
    codes[sound] = np.searchsorted(ends, found, side="left")
    names = [SliceName(text, (text,)) for text in _range_texts(edges)]
    names.append(SliceName(MISSING, (MISSING,), "missing"))
    codes, shown = rank_and_cut(codes, names, num_shown=len(names), keep_order=True)
    return Dimension(key, "bucket", codes, shown, {"edges": edges.tolist()})


def numbers_of(values: pa.ChunkedArray) -> np.ndarray:
    """Return a column's numbers, float64 [R], NaN where there is none."""
    codes, texts = encode_values(values)
    found = [number_of(text) for text in texts]
    numbers = np.array([np.nan if n is None else n for n in found], dtype=np.float64)
    return numbers[codes] if len(codes) else np.zeros(0)


def _range_texts(edges: np.ndarray) -> list[str]:
    """Name the ranges, in as few digits as tell their ends apart."""
    for digits in (4, 6, 9, 17):
        texts = [f"{edge:.{digits}g}" for edge in edges]
        if len({*texts[1:]}) == len(texts) - 1:
            break
    first = texts[1] if edges[0] == edges[1] else f"{texts[0]} to {texts[1]}"
    return [first, *(f"above {low} to {high}" for low, high in pairwise(texts[1:]))]


def seconds_of(values: pa.ChunkedArray, what: str) -> np.ndarray:
    """Return epoch seconds, float64 [R], NaN where missing.

    Raises:
        DataError: Values of this type are no times.
    """
    return parse_times(values.combine_chunks(), what).values


def by_window(key: str, seconds: np.ndarray, window: TimeWindow) -> Dimension:
    """Cut times (UTC) into windows, shown in their order.

    Raises:
        NoDimensionError: No row has a time, or the rows span too many windows.
    """
    sound = np.isfinite(seconds)
    if not sound.any():
        raise NoDimensionError("no row has a time")
    if window is TimeWindow.hour_of_day:
        numbers = np.floor_divide(seconds[sound] % 86_400, 3_600).astype(np.int64)
    else:
        numbers = np.floor_divide(seconds[sound], _SECONDS[window]).astype(np.int64)
    found, places = np.unique(numbers, return_inverse=True)
    if len(found) > MAX_WINDOWS:
        raise NoDimensionError(
            f"its rows span {len(found):,} windows of one {window.value}, more than "
            f"{MAX_WINDOWS}"
        )
    texts = [_window_text(number, window) for number in found.tolist()]
    names = [SliceName(text, (text,)) for text in texts]
    names.append(SliceName(MISSING, (MISSING,), "missing"))
    codes = np.full(len(seconds), len(found), dtype=np.int64)
    codes[sound] = places
    codes, shown = rank_and_cut(codes, names, num_shown=len(names), keep_order=True)
    return Dimension(key, "time", codes, shown, {"window": window.value})


def _window_text(number: int, window: TimeWindow) -> str:
    if window is TimeWindow.hour_of_day:
        return f"{number:02d}:00"
    moment = np.datetime64(number * _SECONDS[window], "s")
    text = str(moment).replace("T", " ")
    return text[: -len(" 00:00:00")] if window is TimeWindow.day else text[:-3]


def by_activity(
    key: str, groups: pa.ChunkedArray, training_counts: Mapping[str, int] | None
) -> Dimension:
    """Deal rows by how many rows their group has: 0, 1 to 4, 5 to 19, ...

    Training rows are counted where they are at hand, by their group's text, so that 0
    is a group training never saw; otherwise the evaluated rows themselves. Rows without
    a group are one slice.

    Raises:
        NoDimensionError: No row has a group.
    """
    codes, texts = encode_values(groups)
    if not any(texts):
        raise NoDimensionError("no row has a group")
    if training_counts is None:
        counts = np.bincount(codes, minlength=len(texts))
    else:
        sizes = [training_counts.get(text, 0) for text in texts]
        counts = np.array(sizes, dtype=np.int64)
    levels = np.searchsorted(_ACTIVITY_EDGES, counts, side="right") - 1
    levels[[text == "" for text in texts]] = len(_ACTIVITY_EDGES)
    names = [SliceName(text, (text,)) for text in _activity_texts()]
    names.append(SliceName(MISSING, (MISSING,), "missing"))
    dealt, shown = rank_and_cut(
        levels[codes], names, num_shown=len(names), keep_order=True
    )
    counted = "evaluated rows" if training_counts is None else "training rows"
    return Dimension(key, "activity", dealt, shown, {"counted": counted})


def _activity_texts() -> list[str]:
    texts = ["0 rows"]
    for low, high in pairwise(_ACTIVITY_EDGES[1:]):
        texts.append(f"{low} to {high - 1} rows")
    return [*texts, f"{_ACTIVITY_EDGES[-1]} rows and more"]
