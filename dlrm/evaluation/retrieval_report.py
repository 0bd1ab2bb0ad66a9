"""Metrics of retrieval, for a terminal and as one HTML file."""

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
    ("num_queries", "Queries"),
    ("num_documents", "Documents"),
)


def describe_retrieval(metrics: Mapping[str, Any]) -> str:
    """Return the content of metrics.json as an aligned table, no newline at its end."""
    missing = metrics["num_unknown_documents"]
    note = f"   {missing:,} of documents the catalogue has not" if missing else ""
    return describe_plainly(
        metrics,
        counts=_COUNTS,
        words=retrieval_words(metrics),
        notes={"num_queries": note},
    )


def retrieval_words(metrics: Mapping[str, Any]) -> Iterator[MetricWords]:
    """Yield the words of each metric there is, in the order of metrics.json."""
    for name in metrics:
        if name == "mrr":
            meaning = "mean of 1 / rank of the document clicked"
            yield MetricWords(name, "MRR", meaning)
        elif found := re.fullmatch(r"(recall|ndcg)_at_(\d+)", name):
            kind, k = found.groups()
            title, meaning = {
                "recall": ("Recall", f"share of clicks found among the first {k}"),
                "ndcg": ("NDCG", f"the same, 1 / log2(1 + rank) for rank {k} or less"),
            }[kind]
            yield MetricWords(name, f"{title} at {k}", meaning)


def retrieval_page(metrics: Mapping[str, Any], *, context: ReportContext) -> Page:
    """Return the report; ``metrics`` is the content of metrics.json."""
    return plain_page(
        metrics, counts=_COUNTS, words=retrieval_words(metrics), context=context
    )
