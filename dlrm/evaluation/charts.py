"""Small charts as inline SVG: no script, colours from the page's CSS variables.

A chart is drawn at the width of a phone, 360 units, so that its text stays readable
there, and grows with its column elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 20.0, 12.0, 42.0
_BAR_HEIGHT = 50.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """A straight scale from ``low`` to ``high`` with (value, text) ticks."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One series; ``style`` is a CSS class: first, second, or reference (dashed)."""

    name: str
    points: Sequence[Point]
    style: str
    filled: bool = False
    dots: bool = False
    whiskers: Sequence[tuple[float, float]] = ()
    """For each point the (low, high) of its y, drawn as an upright line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar on the x axis from ``low`` to ``high``, for how much there is of something.

    ``share`` is its height over the highest bar's: bars have no axis of their own.
    """

    low: float
    high: float
    share: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart whose ``key`` is unique on its page; ``summary`` says what it shows."""

    key: str
    title: str
    summary: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    bars: tuple[Bar, ...] = ()


def draw_chart(chart: Chart) -> Markup:
    """Return the chart as one ``<svg>`` element; every text is escaped."""
    bars = [_bar(chart, bar) for bar in chart.bars if bar.share > 0]
    body = [_grid(chart), *bars, *(_line(chart, line) for line in chart.lines)]
    return drawing(
        Markup("").join(body),
        height=HEIGHT,
        key=chart.key,
        title=chart.title,
        summary=chart.summary,
    )


def drawing(
    body: Markup, *, height: float, key: str, title: str, summary: str
) -> Markup:
    """Return the ``<svg>`` element around ``body``, with its name and description."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {w:g} {h:g}" role="img" '
        'aria-labelledby="{key}-title {key}-desc">'
        '<title id="{key}-title">{title}</title><desc id="{key}-desc">{summary}</desc>'
        "{body}</svg>"
    ).format(w=WIDTH, h=height, key=key, title=title, summary=summary, body=body)


def even_axis(label: str, low: float, high: float, *, percent: bool = False) -> Axis:
    """Return an axis of about five ticks at round numbers, widened to them."""
    if not high > low:
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread, high + spread
    step = _round_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = _digits(step * (100 if percent else 1))
    kind = "%" if percent else "f"
    ticks = tuple(
        (number * step, _tick_text(number * step, digits, kind))
        for number in range(first, last + 1)
    )
    return Axis(label, first * step, last * step, ticks)


def _digits(step: float) -> int:
    """Return how many decimals write multiples of ``step`` without rounding them."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    scaled = step * 10**digits
    # A step of 2.5 units of its first decimal needs the next one too.
    return digits if abs(scaled - round(scaled)) < 1e-6 else digits + 1


def _tick_text(value: float, digits: int, kind: str) -> str:
    if kind == "f" and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value + 0.0:.{digits}{kind}}"


def _round_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough))
    return next(
        size * m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if size * m >= rough * 0.999
    )


def _place(chart: Chart, point: Point) -> Point:
    """Map a value to the drawing, a little beyond the axes at most."""
    x, y = (
        min(max((value - axis.low) / (axis.high - axis.low), -0.02), 1.02)
        for value, axis in zip(point, (chart.x, chart.y), strict=True)
    )
    return (
        _LEFT + x * (WIDTH - _LEFT - _RIGHT),
        HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM),
    )


def _grid(chart: Chart) -> Markup:
    parts = []
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for value, text in chart.y.ticks:
        _, y = _place(chart, (chart.x.low, value))
        parts.append(segment("grid", _LEFT, y, right, y))
        parts.append(words("tick end", _LEFT - 6, y + 3.5, text))
    for value, text in chart.x.ticks:
        x, _ = _place(chart, (value, chart.y.low))
        parts.append(segment("axis", x, bottom, x, bottom + 4))
        parts.append(words("tick middle", x, bottom + 16, text))
    parts.append(segment("axis", _LEFT, bottom, right, bottom))
    parts.append(words("label middle", (_LEFT + right) / 2, HEIGHT - 6, chart.x.label))
    middle = (_TOP + bottom) / 2
    parts.append(
        Markup(
            '<text class="label middle" transform="translate(11 {y:.1f}) rotate(-90)">'
            "{text}</text>"
        ).format(y=middle, text=chart.y.label)
    )
    return Markup("").join(parts)


def _line(chart: Chart, line: Line) -> Markup:
    places = [_place(chart, point) for point in line.points]
    if not places:
        return Markup("")
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = []
    if line.filled:
        floor = HEIGHT - _BOTTOM
        area = f"{path}L{places[-1][0]:.1f} {floor:g}L{places[0][0]:.1f} {floor:g}Z"
        parts.append(Markup('<path class="area {}" d="{}"/>').format(line.style, area))
    parts.append(Markup('<path class="line {}" d="{}"/>').format(line.style, path))
    for (x, _), (low, high) in zip(line.points, line.whiskers, strict=False):
        (left, bottom), (_, top) = _place(chart, (x, low)), _place(chart, (x, high))
        parts.append(segment(f"whisker {line.style}", left, bottom, left, top))
    if line.dots:
        dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>')
        parts += [dot.format(line.style, x, y) for x, y in places]
    return Markup("").join(parts)


def _bar(chart: Chart, bar: Bar) -> Markup:
    (left, floor), (right, _) = (
        _place(chart, (x, chart.y.low)) for x in (bar.low, bar.high)
    )
    height = bar.share * _BAR_HEIGHT
    return Markup(
        '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
    ).format(left, floor - height, max(right - left - 1, 0.5), height)


def segment(style: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """Return a straight line."""
    return Markup(
        '<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
    ).format(style, x1, y1, x2, y2)


def words(style: str, x: float, y: float, text: str) -> Markup:
    """Return a line of text, escaped."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(
        style, x, y, escape(text)
    )
