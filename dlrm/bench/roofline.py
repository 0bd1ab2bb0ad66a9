"""A picture of a step's parts under the roofs of the machine they ran on.

Across is arithmetic intensity, operations a byte of memory; upwards is the rate. A part
under a slanted roof waits for memory, one under the flat roof for the processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dlrm.bench.spots import Spot, products_alone, spots_of
from dlrm.evaluation.charts import segment, words

_WIDTH, _HEIGHT = 720.0, 460.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 66.0, 24.0, 56.0, 92.0
_X_LOW, _X_HIGH = 0.05, 1000.0
_DECADES_BELOW = 4
"""How far below the flat roof the picture reaches."""
_STYLE = """
:root { --card: #ffffff; --text: #1b2330; --soft: #566072; --grid: #e8ebf0;
  --first: #1f5fc4; --second: #b4560a; --reference: #6b7486; }
@media (prefers-color-scheme: dark) { :root { --card: #1a1f28; --text: #e7eaf0;
  --soft: #a3adbd; --grid: #272d39; --first: #7db0ff; --second: #f0a35c;
  --reference: #8f99ab; } }
text { font: 12px system-ui, "Segoe UI", Roboto, Helvetica, sans-serif;
  fill: var(--soft); }
.title { font-size: 15px; font-weight: 600; fill: var(--text); }
.strong { fill: var(--text); }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.card { fill: var(--card); } .grid { stroke: var(--grid); }
.axis { stroke: var(--reference); }
.roof { stroke: var(--reference); stroke-width: 2; fill: none; }
.rows { stroke-dasharray: 6 4; }
.dot { fill: var(--first); stroke: var(--card); stroke-width: 1.5; }
.alone { fill: none; stroke: var(--second); stroke-width: 1.5; }
"""


class _Paper:
    """Both scales, logarithmic."""

    def __init__(self, top: float) -> None:
        self.y_high = 10 ** math.ceil(math.log10(top * 1.5))
        self.y_low = self.y_high / 10**_DECADES_BELOW

    def x(self, intensity: float) -> float:
        share = math.log(intensity / _X_LOW) / math.log(_X_HIGH / _X_LOW)
        return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, rate: float) -> float:
        share = math.log(rate / self.y_low) / math.log(self.y_high / self.y_low)
        inner = _HEIGHT - _TOP - _BOTTOM
        return _HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * inner

    def slanted(self, bandwidth: float, peak: float) -> tuple[float, ...]:
        """Return the ends of a memory's roof, up to the flat one."""
        start = max(_X_LOW, self.y_low / bandwidth)
        end = min(peak / bandwidth, _X_HIGH)
        return (
            self.x(start), self.y(start * bandwidth), self.x(end),
            self.y(end * bandwidth),
        )  # fmt: skip


def draw_roofline(figures: dict[str, Any]) -> str:
    """Return the picture as an SVG file's text."""
    limits = figures["limits"]
    spots, alone = spots_of(figures), products_alone(figures)
    peak = max([limits["peak_flops"], *(spot.rate for spot in alone)])
    paper = _Paper(peak)
    body = [
        Markup('<rect class="card" width="100%" height="100%"/>'),
        words("title", _LEFT, 24, _title(figures)),
        words("", _LEFT, 42, figures["machine"]["cpu"]),
        *_grid(paper),
        *_roofs(paper, limits, peak),
        *(_dot("alone", paper, spot) for spot in alone),
        *_labelled(paper, spots),
        *_legend(),
    ]
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:g} {h:g}" '
            'role="img" aria-labelledby="t d"><title id="t">{title}</title>'
            '<desc id="d">{summary}</desc><style>{style}</style>{body}</svg>\n'
        ).format(
            w=_WIDTH,
            h=_HEIGHT,
            title=_title(figures),
            summary=" ".join(_sentence(spot) for spot in spots),
            style=Markup(_STYLE),
            body=Markup("").join(body),
        )
    )


def _title(figures: dict[str, Any]) -> str:
    return (
        f"A training step of {figures['model']} on {figures['case']}, "
        f"{figures['facts']['threads']} threads"
    )


def _sentence(spot: Spot) -> str:
    return (
        f"{spot.name}: {spot.rate / 1e9:.3g} GFLOP/s at {spot.intensity:.3g} "
        f"operations a byte."
    )


def _grid(paper: _Paper) -> list[Markup]:
    floor, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for power in range(_DECADES_BELOW + 1):
        value = paper.y_high / 10**power
        y = paper.y(value)
        parts.append(segment("grid", _LEFT, y, right, y))
        parts.append(words("end", _LEFT - 8, y + 4, f"{value / 1e9:g}"))
    for value in (0.1, 1.0, 10.0, 100.0, 1000.0):
        x = paper.x(value)
        parts.append(segment("grid", x, _TOP, x, floor))
        parts.append(words("middle", x, floor + 18, f"{value:g}"))
    parts.append(segment("axis", _LEFT, floor, right, floor))
    middle = (_LEFT + right) / 2
    parts.append(words("middle", middle, floor + 38, "operations a byte of memory"))
    turned = (
        '<text class="middle" transform="translate(16 {:.1f}) rotate(-90)">{}</text>'
    )
    height = (_TOP + floor) / 2
    parts.append(Markup(turned).format(height, "GFLOP/s"))
    return parts


def _roofs(paper: _Paper, limits: dict[str, Any], peak: float) -> list[Markup]:
    parts = []
    copy, gather = limits["copy_bytes_per_second"], limits["gather_bytes_per_second"]
    flat = paper.y(peak)
    start = paper.x(min(peak / copy, _X_HIGH))
    parts.append(segment("roof", start, flat, _WIDTH - _RIGHT, flat))
    text = f"matrix products, {peak / 1e9:,.0f} GFLOP/s"
    parts.append(words("end", _WIDTH - _RIGHT, flat - 7, text))
    for style, bandwidth in (("roof", copy), ("roof rows", gather)):
        if bandwidth is not None:
            parts.append(segment(style, *paper.slanted(bandwidth, peak)))
    return [*parts, *_bandwidths(copy, gather)]


def _bandwidths(copy: float, gather: float | None) -> list[Markup]:
    """Return what the slanted roofs are, in a corner where no part can lie."""
    parts = [
        segment("roof", _LEFT + 10, _TOP + 14, _LEFT + 34, _TOP + 14),
        words("", _LEFT + 42, _TOP + 18, f"copy, {copy / 1e9:.1f} GB/s"),
    ]
    if gather is not None:
        y = _TOP + 34
        text = f"random rows of the largest table, {gather / 1e9:.1f} GB/s"
        parts.append(segment("roof rows", _LEFT + 10, y, _LEFT + 34, y))
        parts.append(words("", _LEFT + 42, y + 4, text))
    return parts


def _labelled(paper: _Paper, spots: Sequence[Spot]) -> list[Markup]:
    """Return the dots with names beside them, each name clear of those above it."""
    parts, last = [], -math.inf
    for spot in sorted(spots, key=lambda spot: -spot.rate):
        x, y = paper.x(spot.intensity), paper.y(spot.rate)
        label = max(y + 4, last + 15)
        last = label
        left = x > _WIDTH - 220
        side, place = ("end strong", x - 10) if left else ("strong", x + 10)
        text = f"{spot.name} {spot.rate / 1e9:.3g}"
        parts.append(_dot("dot", paper, spot))
        parts.append(words(side, place, label, text))
    return parts


def _dot(style: str, paper: _Paper, spot: Spot) -> Markup:
    size = 5.5 if style == "dot" else 4
    return Markup(
        '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
    ).format(style, paper.x(spot.intensity), paper.y(spot.rate), size, _sentence(spot))


def _legend() -> list[Markup]:
    y = _HEIGHT - 20
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>')
    return [
        dot.format("dot", _LEFT + 8, y - 4, 5.5),
        words("", _LEFT + 20, y, "a part of the step"),
        dot.format("alone", _LEFT + 158, y - 4, 4),
        words("", _LEFT + 170, y, "a layer's three products, alone"),
    ]
