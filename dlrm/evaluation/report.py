"""An evaluation as one HTML file that needs no network and no script."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from dlrm.evaluation.charts import Chart, draw_chart
from dlrm.evaluation.figures import (
    auc_figure,
    histogram_figure,
    loss_figure,
    pr_figure,
    reliability_figure,
    roc_figure,
)
from dlrm.evaluation.terminal import METRIC_WORDS, bayes_note, format_value
from dlrm.metrics.calibration import ReliabilityBins, reliability_bins
from dlrm.metrics.ranking import pr_curve_of_table, roc_curve_of_table
from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError

_HEADLINES = ("auc", "log_loss", "normalized_entropy", "calibration", "gauc")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContext:
    """What a report says beside the metrics; all of it is printed, and escaped."""

    run: str
    """The run's name."""
    split: str
    """The split, or the name of the file evaluated."""
    model: str = ""
    checkpoint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The run's resolved config, nested."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """From the run's manifest: data fingerprint, versions, seed, device; nested."""
    history: Sequence[Mapping[str, Any]] = ()
    """The records of metrics.jsonl."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of the table of metrics, or one headline."""

    title: str
    value: str
    note: str
    best: str = ""


@dataclass(frozen=True, slots=True)
class _Figure:
    """A drawn chart with its legend: (style, name) each."""

    chart: Chart
    svg: Markup
    legend: tuple[tuple[str, str], ...]


def render_report(
    metrics: Mapping[str, Any],
    *,
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray,
    context: ReportContext,
) -> str:
    """Return the page; ``metrics`` is the content of metrics.json, arrays are [R]."""
    entries = _entries(metrics)
    bayes = metrics.get("bayes") or {}
    rows = _tabulated(labels, logits, weights)
    figures = {} if rows is None else _prediction_figures(metrics, rows)
    history = (
        loss_figure(context.history, bayes.get("log_loss")),
        auc_figure(context.history, bayes.get("auc")),
    )
    return page_template("report.html.j2").render(
        context=context,
        metrics=metrics,
        entries=list(entries.values()),
        headlines=_headlines(metrics, entries),
        undefined=metrics.get("undefined", {}),
        figures={name: draw_figure(chart) for name, chart in figures.items()},
        history=[draw_figure(chart) for chart in history if chart is not None],
        bins=[] if rows is None else _bin_rows(rows),
        bins_count_rows=rows is None or rows.rows.weights is None,
        provenance=list(flatten_section(context.provenance)),
        config=list(flatten_section(context.config)),
    )


def _entries(metrics: Mapping[str, Any]) -> dict[str, _Entry]:
    undefined, bayes = metrics.get("undefined", {}), metrics.get("bayes", {})
    return {
        words.name: _Entry(
            words.title,
            format_value(metrics[words.name]),
            undefined.get(words.name, words.meaning),
            format_value(bayes[words.name]) if words.name in bayes else "",
        )
        for words in METRIC_WORDS
        if words.name in metrics
    }


def _headlines(
    metrics: Mapping[str, Any], entries: Mapping[str, _Entry]
) -> list[_Entry]:
    found = []
    for name in _HEADLINES:
        if name in entries:
            entry, bayes = entries[name], metrics.get("bayes", {})
            note = bayes_note(name, bayes) if name in bayes else entry.note
            if name in metrics.get("undefined", {}):
                note = entry.note
            found.append(_Entry(entry.title, entry.value, note))
    return found


@dataclass(frozen=True, slots=True)
class _Tabulated:
    """The rows that count, with their table of scores and their bins."""

    rows: Rows
    table: ScoreTable
    bins: ReliabilityBins


def _tabulated(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> _Tabulated | None:
    """Sort the rows once for all charts; None where no metric is defined on them."""
    try:
        rows = check_rows(labels, logits, weights)
    except UndefinedMetricError:
        return None
    table = tabulate_scores(rows)
    return _Tabulated(rows, table, reliability_bins(table))


def _prediction_figures(
    metrics: Mapping[str, Any], found: _Tabulated
) -> dict[str, Chart]:
    """Return the charts that these rows allow: no ROC curve of one class."""
    rows, charts = found.rows, {}
    if metrics["auc"] is not None:
        charts["roc"] = roc_figure(roc_curve_of_table(found.table), metrics["auc"])
        charts["precision"] = pr_figure(
            pr_curve_of_table(found.table),
            metrics["pr_auc"],
            rows.positive_weight / rows.total_weight,
        )
    charts["reliability"] = reliability_figure(found.bins)
    weights = np.ones(len(rows.labels)) if rows.weights is None else rows.weights
    charts["histogram"] = histogram_figure(rows.labels, rows.scores, weights)
    return charts


def _bin_rows(found: _Tabulated) -> list[dict[str, str]]:
    bins = found.bins
    return [
        {
            "weight": f"{bins.weight[i]:,.0f}",
            "lowest": f"{bins.lowest[i]:.3%}",
            "highest": f"{bins.highest[i]:.3%}",
            "mean": f"{bins.mean_probability[i]:.3%}",
            "rate": f"{bins.click_rate[i]:.3%}",
        }
        for i in range(len(bins.weight))
    ]


def draw_figure(chart: Chart) -> _Figure:
    """Draw a chart beside its legend."""
    legend = tuple((line.style, line.name) for line in chart.lines)
    return _Figure(chart, draw_chart(chart), legend)


def flatten_section(
    section: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield dotted keys with their values' texts, in order."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten_section(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, " ".join(str(part) for part in value)
        elif isinstance(value, Enum):
            yield name, str(value.value)
        else:
            yield name, "" if value is None else str(value)


@functools.cache
def page_template(name: str) -> jinja2.Template:
    """Return a template of this folder; it escapes every value."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dlrm.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
