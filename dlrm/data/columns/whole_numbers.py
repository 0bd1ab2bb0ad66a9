"""Canonical text as whole numbers, for features whose values are row numbers."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?", re.ASCII)
_LIMIT = 2**62


def is_whole_number(texts: pa.Array) -> np.ndarray:
    """Say which texts are whole numbers or missing, bool."""
    if _as_int64(texts) is None:
        found = (not text or _WHOLE.fullmatch(text) for text in texts.to_pylist())
        return np.fromiter(found, dtype=bool, count=len(texts))
    return np.ones(len(texts), dtype=bool)


def whole_numbers(texts: pa.Array) -> np.ndarray:
    """Return int64 numbers, cut off at +-2**62; -1 where a text is none or missing."""
    cast = _as_int64(texts)
    if cast is None:
        found = (_whole_number(text) for text in texts.to_pylist())
        return np.fromiter(found, dtype=np.int64, count=len(texts))
    numbers = cast.to_numpy(zero_copy_only=False)
    clipped: np.ndarray = np.clip(numbers, -_LIMIT, _LIMIT)
    return clipped


def _as_int64(texts: pa.Array) -> pa.Array | None:
    """Cast all at once; None where one text is no decimal number of 64 bits."""
    try:
        numbers = texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    # To Arrow 0x10 is 16: an id would depend on what stands beside it.
    is_hex = pc.match_substring(texts, "x", ignore_case=True)
    return None if pc.any(is_hex).as_py() else numbers


def _whole_number(text: str) -> int:
    if _WHOLE.fullmatch(text) is None:
        return -1
    digits = text.partition(".")[0]
    # Python refuses to convert thousands of digits, and no table needs twenty.
    if len(digits.lstrip("+-0")) > 18:
        return -_LIMIT if digits.startswith("-") else _LIMIT
    return int(digits)
