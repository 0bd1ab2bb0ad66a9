"""Raw values as float64 numbers and epoch seconds; NaN stands for missing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.errors import DataError

_YEAR_1 = -62_135_596_800_000_000
"""Its first microsecond, since 1970."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Parsed values, and which of them could not be."""

    values: np.ndarray
    """float64; NaN where missing or bad."""
    bad: np.ndarray
    """int64 positions of values that are infinite or no numbers, ascending."""


def parse_numbers(values: pa.Array, what: str) -> Numbers:
    """Read numbers, booleans as 0 and 1, or text; white space around text is ignored.

    "", null and NaN in any case are missing.

    Raises:
        DataError: Values of this type are no numbers; ``what`` names the column.
    """
    if pa.types.is_dictionary(values.type) and not values.indices.null_count:
        found = parse_numbers(values.dictionary, what)
        return _taken(found, values.indices.to_numpy())
    values = _plain(values)
    if pa.types.is_string(values.type):
        return _parse_text(values, number_of)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    try:
        numbers = values.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _wrong_type(what, "numbers", values.type) from error
    return _finite(numbers.to_numpy(zero_copy_only=False))


def parse_times(values: pa.Array, what: str) -> Numbers:
    """Read epoch seconds, timestamps or ISO 8601 text; without a zone they are UTC.

    Raises:
        DataError: Values of this type are no times; ``what`` names the column.
    """
    values = _plain(values)
    kind = values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        ticks = values.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
        seconds = ticks.cast(pa.int64()).cast(pa.float64(), safe=False)
        return _finite(seconds.to_numpy(zero_copy_only=False) / 1e6)
    if not pa.types.is_string(kind):
        return parse_numbers(values, what)
    for zone in (None, "UTC"):
        try:
            moments = values.cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
        first = pc.min(moments.cast(pa.int64())).as_py()
        # Arrow has a year 0, which ISO 8601 and Python have not.
        if first is None or first >= _YEAR_1:
            return parse_times(moments, what)
    return _parse_text(values, time_of)


def number_of(text: str) -> float | None:
    """Return the number that ``text`` spells, NaN if it is missing, else None."""
    text = text.strip()
    if not text or text.lower() == "nan":
        return math.nan
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def time_of(text: str) -> float | None:
    """Return epoch seconds, NaN where ``text`` is missing, None if it is no time."""
    number = number_of(text)
    if number is not None:
        return number
    text = text.strip()
    try:
        moment = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()


def _plain(values: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return values.cast(pa.string()) if is_text else values


def _parse_text(texts: pa.Array, parse: Callable[[str], float | None]) -> Numbers:
    """Let Arrow try whole columns first; only what it refuses is parsed one by one."""
    for may_have_blanks in (False, True):
        try:
            clean = _without_blanks(texts) if may_have_blanks else texts
            numbers = clean.cast(pa.float64())
        except pa.ArrowInvalid:
            continue
        values = numbers.to_numpy(zero_copy_only=False)
        if _means_missing(clean, values, parse):
            return _finite(values)
    encoded = texts.dictionary_encode(null_encoding="encode")
    found = [parse(text or "") for text in encoded.dictionary.to_pylist()]
    bad = [place for place, number in enumerate(found) if number is None]
    values = np.array([math.nan if n is None else n for n in found], dtype=np.float64)
    numbers = Numbers(values, np.array(bad, dtype=np.int64))
    return _taken(numbers, encoded.indices.to_numpy())


def _taken(numbers: Numbers, codes: np.ndarray) -> Numbers:
    """Return the numbers of a dictionary's codes."""
    is_bad = np.zeros(numbers.values.size, dtype=bool)
    is_bad[numbers.bad] = True
    return Numbers(numbers.values[codes], np.flatnonzero(is_bad[codes]))


def _means_missing(
    texts: pa.Array, values: np.ndarray, parse: Callable[[str], float | None]
) -> bool:
    """Say whether all NaN are so by our rules: Arrow also takes -nan and nan(1)."""
    is_nan = np.isnan(values) & texts.is_valid().to_numpy(zero_copy_only=False)
    if not is_nan.any():
        return True
    spelled = texts.filter(pa.array(is_nan)).unique()
    return all(parse(text) is not None for text in spelled.to_pylist())


def _without_blanks(texts: pa.Array) -> pa.Array:
    trimmed = pc.ascii_trim_whitespace(texts)
    missing = pa.scalar(None, pa.string())
    return pc.if_else(pc.equal(trimmed, ""), missing, trimmed)


def _finite(values: np.ndarray) -> Numbers:
    infinite = np.isinf(values)
    if not infinite.any():
        return Numbers(values, np.zeros(0, dtype=np.int64))
    return Numbers(np.where(infinite, np.nan, values), np.flatnonzero(infinite))


def _wrong_type(what: str, wanted: str, kind: pa.DataType) -> DataError:
    return DataError(
        f"{what} must hold {wanted}, but it holds {kind} values. Convert the "
        f"column, or name another one."
    )
