"""Metrics of tasks with classes, for a terminal and as one HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dlrm.evaluation.page import Page
from dlrm.evaluation.plain_report import describe_plainly, plain_page
from dlrm.evaluation.report import ReportContext
from dlrm.evaluation.terminal import MetricWords

_COUNTS = (
    ("num_examples", "Examples"),
    ("num_classes", "Classes"),
    ("num_labels", "Labels"),
)


def describe_classes(metrics: Mapping[str, Any]) -> str:
    """Return the content of metrics.json as an aligned table, no newline at its end."""
    unknown = metrics["num_unknown_labels"]
    note = f"   {unknown:,} of classes training never saw" if unknown else ""
    return describe_plainly(
        metrics,
        counts=_COUNTS,
        words=metric_words(metrics),
        notes={"num_labels": note},
    )


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


def class_page(metrics: Mapping[str, Any], *, context: ReportContext) -> Page:
    """Return the report; ``metrics`` is the content of metrics.json."""
    return plain_page(
        metrics, counts=_COUNTS, words=metric_words(metrics), context=context
    )
