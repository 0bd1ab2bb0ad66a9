"""A forest plot: one estimate a line with its interval, against a line of no effect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dlrm.evaluation.charts import WIDTH, Axis, drawing, even_axis, segment, words
from dlrm.evaluation.page import Figure

_LEFT, _RIGHT, _TOP, _ROW, _BOTTOM = 12.0, 12.0, 6.0, 36.0, 40.0
_LETTERS = 52
"""Letters that a line of the drawing takes."""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One estimate; without an interval it is a mark alone."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    text: str = ""
    """The same in digits, at the right; made from the numbers where not given."""
    style: str = "first"
    """A CSS class: first, second, or reference."""


def forest_figure(
    rows: Sequence[ForestRow],
    *,
    key: str,
    title: str,
    summary: str,
    axis_label: str,
    reference: float = 0.0,
    percent: bool = False,
) -> Figure:
    """Draw the rows from the top down; ``key`` is unique on the page.

    ``reference`` is where there is no effect: 0 for a difference, 1 for a ratio. Names
    stand above their intervals, so that long ones fit on a phone.
    """
    axis = even_axis(axis_label, *_range(rows, reference), percent=percent)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    floor = height - _BOTTOM
    body = [_axis(axis, floor)]
    for number, row in enumerate(rows):
        top = _TOP + _ROW * number
        # Beside the marks alone, so that it does not cross the names.
        x = _x(axis, reference)
        body.append(segment("line reference", x, top + 19, x, top + _ROW - 3))
        body.append(_row(axis, row, top))
    svg = drawing(
        Markup("").join(body),
        height=height,
        key=key,
        title=title,
        summary=" ".join([summary, *(f"{row.name}: {_digits(row)}." for row in rows)]),
    )
    return Figure(title, summary, svg)


def _range(rows: Sequence[ForestRow], reference: float) -> tuple[float, float]:
    values = [reference]
    for row in rows:
        ends = (row.value, row.low, row.high)
        values += [end for end in ends if end is not None and math.isfinite(end)]
    return min(values), max(values)


def _digits(row: ForestRow) -> str:
    if row.text:
        return row.text
    if row.low is None or row.high is None:
        return f"{row.value:.5f}"
    return f"{row.value:.5f} ({row.low:.5f} to {row.high:.5f})"


def _x(axis: Axis, value: float) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return _LEFT + min(max(share, 0.0), 1.0) * (WIDTH - _LEFT - _RIGHT)


def _row(axis: Axis, row: ForestRow, top: float) -> Markup:
    middle, digits = top + 26, _digits(row)
    room = max(_LETTERS - len(digits), 8)
    name = row.name if len(row.name) <= room else f"{row.name[: room - 1]}…"
    parts = [
        words("tick strong", _LEFT, top + 14, name),
        words("tick end", WIDTH - _RIGHT, top + 14, digits),
    ]
    if row.low is not None and row.high is not None:
        left, right = _x(axis, row.low), _x(axis, row.high)
        parts += [
            segment(f"span {row.style}", left, middle, right, middle),
            segment(f"span {row.style}", left, middle - 3, left, middle + 3),
            segment(f"span {row.style}", right, middle - 3, right, middle + 3),
        ]
    mark = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"/>')
    parts.append(mark.format(row.style, _x(axis, row.value), middle))
    return Markup("").join(parts)


def _axis(axis: Axis, floor: float) -> Markup:
    parts = [segment("axis", _LEFT, floor, WIDTH - _RIGHT, floor)]
    last = len(axis.ticks) - 1
    for number, (value, text) in enumerate(axis.ticks):
        x = _x(axis, value)
        parts.append(segment("axis", x, floor, x, floor + 4))
        side = "start" if number == 0 else "end" if number == last else "middle"
        parts.append(words(f"tick {side}", x, floor + 17, text))
    parts.append(words("label middle", WIDTH / 2, floor + 34, axis.label))
    return Markup("").join(parts)
