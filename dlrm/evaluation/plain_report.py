"""Metrics of tasks other than clicks, for a terminal and as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlrm.evaluation.figures import loss_figure
from dlrm.evaluation.page import Cell, Column, Headline, Page, Section, Table
from dlrm.evaluation.report import (
    ReportContext,
    lead,
    origin_sections,
    training_sections,
)
from dlrm.evaluation.terminal import MetricWords, format_value


def describe_plainly(
    metrics: Mapping[str, Any],
    *,
    counts: Sequence[tuple[str, str]],
    words: Iterable[MetricWords],
    notes: Mapping[str, str],
) -> str:
    """Return counts and metrics as an aligned table, no newline at its end.

    ``counts`` are keys of ``metrics`` with their titles; ``notes`` stand beside them.
    """
    lines = [
        f"{title:<20}{metrics[name]:>12,}{notes.get(name, '')}"
        for name, title in counts
    ]
    undefined = metrics.get("undefined", {})
    for entry in words:
        note = undefined.get(entry.name, entry.meaning)
        value = format_value(metrics[entry.name])
        lines.append(f"{entry.title:<20}{value:>12}   {note}")
    return "\n".join(lines)


def plain_page(
    metrics: Mapping[str, Any],
    *,
    counts: Sequence[tuple[str, str]],
    words: Iterable[MetricWords],
    context: ReportContext,
) -> Page:
    """Return a report of counts, metrics and the training's loss.

    ``counts`` are keys of ``metrics`` with their titles.
    """
    undefined = metrics.get("undefined", {})
    rows = [
        (
            Cell(entry.title),
            Cell(format_value(metrics[entry.name])),
            Cell(undefined.get(entry.name, entry.meaning)),
        )
        for entry in words
    ]
    columns = (
        Column("Metric"),
        Column("Value", number=True),
        Column("How to read it", remark=True),
    )
    caption = "All metrics, exact over every row of the split."
    table = Table("all-metrics", caption, columns, rows)
    return Page(
        title=context.run,
        lead=lead(context, counts=f"{metrics['num_examples']:,} examples"),
        headlines=[Headline(title, f"{metrics[name]:,}") for name, title in counts],
        sections=[
            Section("metrics", "Metrics", (table,)),
            *training_sections((loss_figure(context.history, None),)),
            *origin_sections(context),
        ],
    )
