"""Metrics of tasks with classes, for a terminal and as one HTML file."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2

from dlrm.evaluation.charts import Chart
from dlrm.evaluation.figures import loss_figure
from dlrm.evaluation.report import ReportContext, draw_figure, flatten_section
from dlrm.evaluation.terminal import MetricWords, format_value

_COUNTS = (
    ("num_examples", "Examples"),
    ("num_classes", "Classes"),
    ("num_labels", "Labels"),
)


def describe_classes(metrics: Mapping[str, Any]) -> str:
    """Return the content of metrics.json as an aligned table, no newline at its end."""
    unknown = metrics["num_unknown_labels"]
    notes = {"num_labels": f"   {unknown:,} of classes training never saw"}
    lines = [
        f"{title:<20}{metrics[name]:>12,}{notes.get(name, '') if unknown else ''}"
        for name, title in _COUNTS
    ]
    undefined = metrics.get("undefined", {})
    for words in metric_words(metrics):
        note = undefined.get(words.name, words.meaning)
        value = format_value(metrics[words.name])
        lines.append(f"{words.title:<20}{value:>12}   {note}")
    return "\n".join(lines)


def metric_words(metrics: Mapping[str, Any]) -> Iterator[MetricWords]:
    """Yield the words of each metric there is, in the order of metrics.json."""
    known = {
        "log_loss": ("Log loss", "mean over a row's classes, lower is better"),
        "accuracy": ("Accuracy", "share of rows whose first class is right"),
    }
    for name in metrics:
        if name in known:
            yield MetricWords(name, *known[name])
        elif found := re.fullmatch(r"(precision|recall)_at_(\d+)", name):
            kind, k = found.groups()
            first = "first class" if k == "1" else f"first {k} classes"
            meaning = {
                "precision": f"share of the rows' {first} listed that is right",
                "recall": f"share of all labels found in their row's {first}",
            }[kind]
            yield MetricWords(name, f"{kind.capitalize()} at {k}", meaning)


def render_class_report(metrics: Mapping[str, Any], *, context: ReportContext) -> str:
    """Return the page; ``metrics`` is the content of metrics.json."""
    return render_plain_report(
        metrics, counts=_COUNTS, words=metric_words(metrics), context=context
    )


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
    return _template().render(
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


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dlrm.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("classes.html.j2")
