"""Values and names from files as they stand in messages: short, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_MOST_CHARACTERS = 120
_MOST_NAMES = 12


def shown(value: object) -> str:
    """Return ``repr(value)``, cut where it is long: a cell may hold megabytes."""
    return cut_short(repr(value))


def cut_short(text: str, *, most: int = _MOST_CHARACTERS) -> str:
    """Return the text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def listed(names: Sequence[str], *, most: int = _MOST_NAMES) -> str:
    """Return names in quotes, the first ones where they are many."""
    some = ", ".join(map(shown, names[:most]))
    more = len(names) - most
    return f"{some} and {more:,} more" if more > 0 else some


def cell(column: pa.ChunkedArray, row: int) -> Any:
    """Return one value; as text where Python has none such, as of the year 10000."""
    value = column[row]
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return value.cast(pa.string()).as_py()
