"""A plan as one HTML file that needs no network and no script."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from dlrm.planning.report import (
    KINDS,
    TERMS,
    format_bytes,
    headline,
    kinds_of,
    rank_ranges,
)

_KIND_WORDS = {
    "weights": "Rows of tables",
    "optimizer": "Their optimizer state",
    "cache": "Cache of rows in host memory",
    "exchange": "Buffers of exchanges",
    "activations": "Kept until backward",
    "dense": "Dense part with gradients and state",
}


@dataclass(frozen=True, slots=True)
class _Piece:
    """One piece of a bar: a CSS class, its share of the bar's width, its words."""

    style: str
    percent: float
    text: str


@dataclass(frozen=True, slots=True)
class _Bar:
    rank: int
    pieces: tuple[_Piece, ...]
    text: str


def render_plan(described: Mapping[str, Any], *, title: str, command: str) -> str:
    """Return the page; every text in it is escaped."""
    ranks = described["ranks"]
    room = described["available_bytes"]["device"]
    widest = max(room, *(entry["device_bytes"]["total"] for entry in ranks))
    longest = max(entry["step_ms"]["total"] for entry in ranks)
    used = [
        kind
        for kind in KINDS
        if any(kinds_of(entry["device_bytes"])[kind] for entry in ranks)
    ]
    return _template().render(
        title=title,
        command=command,
        headline=headline(described),
        described=described,
        room=format_bytes(room),
        limit=100 * room / widest,
        kinds=[(kind, _KIND_WORDS[kind]) for kind in used],
        terms=list(TERMS.items()),
        memory_bars=[_memory_bar(entry, used, widest) for entry in ranks],
        time_bars=[_time_bar(entry, longest) for entry in ranks],
        tables=[_table_row(entry) for entry in described["tables"]],
        has_host=any(entry["host_bytes"]["total"] for entry in ranks),
        format_bytes=format_bytes,
        kinds_of=kinds_of,
    )


def _memory_bar(entry: Mapping[str, Any], used: list[str], widest: int) -> _Bar:
    kinds, total = kinds_of(entry["device_bytes"]), entry["device_bytes"]["total"]
    pieces = tuple(
        _Piece(kind, 100 * kinds[kind] / widest, f"{kind}: {format_bytes(kinds[kind])}")
        for kind in used
    )
    return _Bar(entry["rank"], pieces, format_bytes(total))


def _time_bar(entry: Mapping[str, Any], longest: float) -> _Bar:
    times = entry["step_ms"]
    pieces = tuple(
        _Piece(
            term,
            100 * times[term] / longest if longest else 0.0,
            f"{words}: {times[term]:,.3f} ms",
        )
        for term, words in TERMS.items()
    )
    return _Bar(entry["rank"], pieces, f"{times['total']:,.2f} ms")


def _table_row(entry: Mapping[str, Any]) -> dict[str, Any]:
    parts = [part for part in entry["parts"] if part["num_rows"]]
    return {
        **entry,
        "size": format_bytes(entry["bytes"]),
        "ranks": rank_ranges([part["rank"] for part in parts]),
        "shards": [
            {
                "rank": part["rank"],
                "rows": _span(part["first_row"], part["num_rows"]),
                "columns": _span(part["first_column"], part["num_columns"]),
                "size": format_bytes(part["bytes"]),
            }
            for part in parts
        ],
    }


def _span(first: int, count: int) -> str:
    return f"{first:,} to {first + count - 1:,}"


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("dlrm.planning", "."),
                # The look of all pages is that of the evaluation's.
                jinja2.PackageLoader("dlrm.evaluation", "."),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("plan.html.j2")
