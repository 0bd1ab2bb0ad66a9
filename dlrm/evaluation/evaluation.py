"""The results of one evaluation: metrics, predictions, and a report to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.data.contract.findings import FINDINGS_FILE
from dlrm.evaluation.judge import Found, Judge
from dlrm.evaluation.kept_rows import kept_rows
from dlrm.evaluation.markdown import render_markdown
from dlrm.evaluation.page import Page, render_html
from dlrm.evaluation.replace import replacing_folder
from dlrm.evaluation.report import ReportContext

__all__ = ["ReportContext", "predictions_table", "write_evaluation"]

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.parquet"
REPORT_FILE = "report.html"
MARKDOWN_FILE = "report.md"
OUTSIDE_FILE = "outside_ids.json"
DETAILS = ("slices", "recalibration", "importance", "embeddings")
"""Fields of the context that become files of their own where they are set."""
_HIDDEN_PREFIX = "__"


def write_evaluation(
    folder: Path,
    *,
    judge: Judge,
    predictions: Found,
    side: pa.Table | None,
    group_column: str | None,
    context: ReportContext,
    outside_ids: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Compute all metrics, replace ``folder`` by the files, return the metrics.

    ``side`` holds the raw columns of the split's rows 0, 1, ...; a row id is a place in
    it. The judge says what it reads of them. ``outside_ids``, and what the context has
    of ``DETAILS``, are written as they are.

    Raises:
        DatasetError: ``group_column`` is set but was not kept.
        RunError: The files cannot be written.
    """
    kept = None if side is None else kept_rows(side, predictions.row_ids)
    metrics = judge.metrics(predictions, kept, group_column)
    details = {name: getattr(context, name) for name in DETAILS}
    with replacing_folder(folder) as aside:
        write_json(aside / METRICS_FILE, metrics)
        table = predictions_table(judge.predictions(predictions), kept)
        pq.write_table(table, aside / PREDICTIONS_FILE)
        if outside_ids is not None:
            write_json(aside / OUTSIDE_FILE, outside_ids)
        write_findings(aside, context)
        for name, content in details.items():
            if content is not None:
                write_json(aside / f"{name}.json", content)
        write_page(aside, judge.page(metrics, predictions, context))
    return metrics


def write_findings(folder: Path, context: ReportContext) -> None:
    """Write what is wrong with the rows, if anything is, as ``findings.json``."""
    if not context.findings:
        return
    text = json.dumps(list(context.findings), indent=2) + "\n"
    (folder / FINDINGS_FILE).write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON as all files of an evaluation have it; NaN is none."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")


def write_page(folder: Path, page: Page) -> None:
    """Write the report as HTML and as Markdown."""
    (folder / REPORT_FILE).write_text(render_html(page), encoding="utf-8")
    (folder / MARKDOWN_FILE).write_text(render_markdown(page), encoding="utf-8")


def predictions_table(predicted: dict[str, Any], kept: pa.Table | None) -> pa.Table:
    """Return the judge's columns, then the kept raw columns, row-aligned.

    A raw column with the name of a judge's one gets the prefix ``raw_``; source file
    and row (``__file``, ``__row``) are left out.
    """
    columns = dict(predicted)
    if kept is not None:
        own = {*columns}
        for name in kept.column_names:
            if not name.startswith(_HIDDEN_PREFIX):
                columns[_free_name(name, own, kept.column_names)] = kept.column(name)
    return pa.table(columns)


def _free_name(name: str, own: set[str], raw: list[str]) -> str:
    if name not in own:
        return name
    name = f"raw_{name}"
    while name in raw:
        name = f"raw_{name}"
    return name
