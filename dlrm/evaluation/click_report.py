"""The report of an evaluation of click probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dlrm.evaluation.calibration_sections import calibration_section
from dlrm.evaluation.figures import auc_figure, loss_figure
from dlrm.evaluation.page import (
    Block,
    Cell,
    Column,
    Folded,
    Headline,
    Note,
    Page,
    Points,
    Section,
    Table,
)
from dlrm.evaluation.ranking_sections import ranking_section
from dlrm.evaluation.report import (
    ReportContext,
    lead,
    origin_sections,
    training_sections,
)
from dlrm.evaluation.slice_sections import slice_sections
from dlrm.evaluation.tabulated import tabulated
from dlrm.evaluation.terminal import (
    METRIC_WORDS,
    MORE_METRIC_WORDS,
    MetricWords,
    bayes_note,
    format_value,
)
from dlrm.evaluation.why_sections import why_sections

_HEADLINES = ("auc", "log_loss", "normalized_entropy", "calibration", "gauc")
_FOOTER = (
    "Written by dlrm. The same numbers stand in metrics.json beside this file, every "
    "prediction in predictions.parquet."
)


def click_page(
    metrics: Mapping[str, Any],
    *,
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray,
    context: ReportContext,
) -> Page:
    """Return the report; ``metrics`` is the content of metrics.json, arrays are [R]."""
    rows = tabulated(labels, logits, weights)
    bayes = metrics.get("bayes") or {}
    sections = [_metrics_section(metrics)]
    if rows is not None:
        sections += [
            *ranking_section(metrics, rows),
            calibration_section(rows, context.recalibration),
        ]
    sections += [
        *slice_sections(context.slices),
        *why_sections(context.importance, context.embeddings),
        *training_sections(
            (
                loss_figure(context.history, bayes.get("log_loss")),
                auc_figure(context.history, bayes.get("auc")),
            )
        ),
        *origin_sections(context),
    ]
    return Page(
        title=context.run,
        lead=lead(context, counts=_counts(metrics)),
        headlines=list(_headlines(metrics)),
        sections=sections,
        footer=_FOOTER,
    )


def _counts(metrics: Mapping[str, Any]) -> str:
    rows, clicks = metrics["num_examples"], metrics["num_positives"]
    share = f" ({clicks / rows:.2%})" if rows else ""
    return f"{rows:,} examples, {clicks:,} clicks{share}"


def _headlines(metrics: Mapping[str, Any]) -> Iterator[Headline]:
    bayes, undefined = metrics.get("bayes", {}), metrics.get("undefined", {})
    words = {entry.name: entry for entry in METRIC_WORDS}
    for name in _HEADLINES:
        if name not in metrics:
            continue
        note = bayes_note(name, bayes) if name in bayes else words[name].meaning
        interval = format_interval(metrics, name, digits=4)
        yield Headline(
            words[name].title,
            format_value(metrics[name]),
            f"95 %: {interval}" if interval else "",
            undefined.get(name, note),
        )


def _metrics_section(metrics: Mapping[str, Any]) -> Section:
    caption = "Exact over every row of the split; ties count one half."
    blocks: list[Block] = [
        _metrics_table("metrics-table", caption, metrics, METRIC_WORDS)
    ]
    if any(words.name in metrics for words in MORE_METRIC_WORDS):
        caption = "More metrics of the same rows."
        more = _metrics_table("more-metrics", caption, metrics, MORE_METRIC_WORDS)
        blocks.append(Folded("More metrics", (more,)))
    blocks += [Note(text) for text in _notes(metrics)]
    undefined = metrics.get("undefined")
    if undefined:
        reasons = [f"{name}: {reason}" for name, reason in undefined.items()]
        blocks.append(Points("Without a value", reasons))
    return Section("metrics", "Metrics", blocks)


def _metrics_table(
    key: str, caption: str, metrics: Mapping[str, Any], shown: Sequence[MetricWords]
) -> Table:
    undefined, bayes = metrics.get("undefined", {}), metrics.get("bayes", {})
    columns = [Column("Metric"), Column("Value", number=True)]
    if "intervals" in metrics:
        columns.append(Column("95 % interval", number=True))
    if bayes:
        columns.append(Column("Best possible", number=True))
    columns.append(Column("How to read it", remark=True))
    rows = []
    for words in shown:
        name = words.name
        if name not in metrics:
            continue
        cells = [Cell(words.title), Cell(format_value(metrics[name]))]
        if "intervals" in metrics:
            cells.append(Cell(format_interval(metrics, name)))
        if bayes:
            cells.append(Cell(format_value(bayes[name]) if name in bayes else ""))
        rows.append([*cells, Cell(undefined.get(name, words.meaning))])
    return Table(key, caption, columns, rows)


def _notes(metrics: Mapping[str, Any]) -> Iterator[str]:
    intervals = metrics.get("intervals", {})
    if intervals.get("num_units"):
        units = f"{intervals['num_units']:,} {intervals['unit']}s"
        yield (
            f"An interval says where the number would lie on other rows of the same "
            f"kind, 95 times in 100; {units} are taken as independent of each other. "
            f"It says nothing of another training run."
        )
    if "gauc_num_groups" in metrics:
        yield (
            f"Grouped AUC speaks for {metrics['gauc_num_groups']:,} groups; "
            f"{metrics.get('gauc_num_groups_left_out', 0):,} with one class only are "
            f"left out."
        )


def format_interval(metrics: Mapping[str, Any], name: str, *, digits: int = 5) -> str:
    """Return a metric's interval in words, empty where it has none."""
    found = metrics.get("intervals", {}).get(name)
    if not found:
        return ""
    return f"{found['low']:.{digits}f} to {found['high']:.{digits}f}"
