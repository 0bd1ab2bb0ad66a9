"""How slices of the evaluated rows are typed: ``device``, ``country*time:day``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dlrm.config.checks import require
from dlrm.config.errors import ConfigError

CROSSING = "*"


class SliceKind(Enum):
    """What one part of a slice's text stands for."""

    column = "column"
    """``device`` or ``column:device``: the values of a raw column."""
    bucket = "bucket"
    """``bucket:price:10``: a column's numbers, in ranges of equally many rows."""
    time = "time"
    """``time:day``: windows of ``data.time_column``."""
    activity = "activity"
    """``activity``: how many rows the row's group has."""


class TimeWindow(Enum):
    """How wide a window of time is; all of them in UTC."""

    day = "day"
    hour = "hour"
    hour_of_day = "hour_of_day"
    """The 24 hours of all days together."""


@dataclass(frozen=True, slots=True)
class SlicePart:
    """One column's way of telling rows apart."""

    text: str
    """As typed."""
    kind: SliceKind
    column: str = ""
    """For ``column`` and ``bucket``."""
    num_buckets: int = 0
    """For ``bucket``."""
    window: TimeWindow = TimeWindow.day
    """For ``time``."""


@dataclass(frozen=True, slots=True)
class SliceSpec:
    """One dimension to slice by: a part, or the crossing of two."""

    text: str
    parts: tuple[SlicePart, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that are named."""
        return tuple(part.column for part in self.parts if part.column)


def parse_slices(texts: Sequence[str], *, key: str) -> tuple[SliceSpec, ...]:
    """Read what slices are typed as; ``key`` is the setting they stand in.

    Raises:
        ConfigError: A text is none of the forms above, or given twice.
    """
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if list(texts).count(text) > 1)
        raise ConfigError(
            f"{key} must name each slice once, but '{twice}' comes twice. Leave one "
            f"out."
        )
    return tuple(_spec(text, key) for text in texts)


def _spec(text: str, key: str) -> SliceSpec:
    parts = text.split(CROSSING)
    sound = len(parts) <= 2 and all(part.strip() for part in parts)
    hint = "Type, for example, device, country*device, time:day or bucket:price:10."
    require(sound, key, "a column or the crossing of two (a*b)", repr(text), hint)
    found = tuple(_part(part.strip(), key) for part in parts)
    differ = len({part.text for part in found}) == len(found)
    require(differ, key, "a crossing of two different slices", repr(text))
    return SliceSpec(text, found)


def _part(text: str, key: str) -> SlicePart:
    if text == SliceKind.activity.value:
        return SlicePart(text, SliceKind.activity)
    name, colon, rest = text.partition(":")
    match name if colon else "":
        case "column":
            return SlicePart(text, SliceKind.column, rest)
        case "time":
            windows = [window.value for window in TimeWindow]
            known = f"time:{', time:'.join(windows)}"
            require(rest in windows, key, f"one of {known}", repr(text))
            return SlicePart(text, SliceKind.time, window=TimeWindow(rest))
        case "bucket":
            column, _, count = rest.rpartition(":")
            sound = bool(column) and count.isdecimal() and 2 <= int(count) <= 1000
            wanted = "bucket:<column>:<2 to 1000 buckets>, such as bucket:price:10"
            require(sound, key, wanted, repr(text))
            return SlicePart(text, SliceKind.bucket, column, int(count))
        case _:
            return SlicePart(text, SliceKind.column, text)
