"""Metrics of tasks other than clicks, for a terminal and as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlrm.evaluation.charts import Chart
from dlrm.evaluation.figures import loss_figure
from dlrm.evaluation.report import (
    ReportContext,
    draw_figure,
    flatten_section,
    page_template,
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


def render_plain_report(
    metrics: Mapping[str, Any],
    *,
    counts: Sequence[tuple[str, str]],
    words: Iterable[MetricWords],
    context: ReportContext,
) -> str:
    """Return a page of counts, metrics and the training's loss.

    ``counts`` are keys of ``metrics`` with their titles.
    """
    undefined = metrics.get("undefined", {})
    chart: Chart | None = loss_figure(context.history, None)
    return page_template("classes.html.j2").render(
        context=context,
        counts=[(title, f"{metrics[name]:,}") for name, title in counts],
        entries=[
            (
                entry.title,
                format_value(metrics[entry.name]),
                undefined.get(entry.name, entry.meaning),
            )
            for entry in words
        ],
        history=None if chart is None else draw_figure(chart),
        sections={
            "Where it came from": list(flatten_section(context.provenance)),
            "Settings": list(flatten_section(context.config)),
        },
    )
