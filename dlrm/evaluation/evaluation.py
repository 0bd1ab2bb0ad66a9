"""The results of one evaluation: metrics.json, predictions.parquet, report.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlrm.config.errors import DatasetError
from dlrm.evaluation.bayes import BAYES_COLUMN, CAPPED_COLUMN, compare_with_bayes
from dlrm.evaluation.replace import replacing_folder
from dlrm.evaluation.report import ReportContext, render_report
from dlrm.evaluation.terminal import format_metrics
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.summary import compute_metrics

if TYPE_CHECKING:
    from dlrm.evaluation.predictions import Predictions

__all__ = ["ReportContext", "format_metrics", "predictions_table", "write_evaluation"]

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.parquet"
REPORT_FILE = "report.html"
_HIDDEN_PREFIX = "__"


def write_evaluation(
    folder: Path,
    *,
    predictions: Predictions,
    side: pa.Table | None,
    group_column: str | None,
    context: ReportContext,
) -> dict[str, Any]:
    """Compute all metrics, replace ``folder`` by the three files, return the metrics.

    ``side`` holds the raw columns of the split's rows 0, 1, ...; a row id is a place in
    it. With its column ``bayes_probability`` the metrics get an entry ``bayes``; with
    ``group_column`` in it they get ``gauc``.

    Raises:
        DatasetError: ``group_column`` is set but was not kept.
        RunError: The files cannot be written.
    """
    kept = None if side is None else side.take(pa.array(predictions.row_ids))
    metrics = _all_metrics(predictions, kept, group_column)
    with replacing_folder(folder) as aside:
        text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
        (aside / METRICS_FILE).write_text(text, encoding="utf-8")
        pq.write_table(predictions_table(predictions, kept), aside / PREDICTIONS_FILE)
        page = render_report(
            metrics,
            labels=predictions.labels,
            logits=predictions.logits,
            weights=predictions.weights,
            context=context,
        )
        (aside / REPORT_FILE).write_text(page, encoding="utf-8")
    return metrics


def predictions_table(predictions: Predictions, kept: pa.Table | None) -> pa.Table:
    """Return row, label, logit, probability, weight, then the kept raw columns.

    ``kept`` is aligned with the predictions. A raw column with one of our own names
    gets the prefix ``raw_``; source file and row (``__file``, ``__row``) are left out.
    """
    probabilities = probabilities_from_logits(predictions.logits)
    columns: dict[str, Any] = {
        "row": predictions.row_ids,
        "label": predictions.labels.astype(np.int8),
        "logit": predictions.logits,
        "probability": probabilities,
        "weight": predictions.weights,
    }
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


def _all_metrics(
    predictions: Predictions, kept: pa.Table | None, group_column: str | None
) -> dict[str, Any]:
    groups = None if group_column is None else _group_codes(kept, group_column)
    labels, weights = predictions.labels, predictions.weights
    metrics = compute_metrics(labels, predictions.logits, weights, groups)
    if kept is not None and BAYES_COLUMN in kept.column_names:
        capped = None
        if CAPPED_COLUMN in kept.column_names:
            capped = _known(kept, CAPPED_COLUMN)
        truth = _known(kept, BAYES_COLUMN)
        metrics["bayes"] = compare_with_bayes(labels, truth, weights, metrics, capped)
    return metrics


def _known(kept: pa.Table, column: str) -> np.ndarray:
    """Return a column of probabilities, NaN where one is missing."""
    values = pc.cast(kept.column(column), pa.float64())
    return pc.fill_null(values, float("nan")).to_numpy()


def _group_codes(kept: pa.Table | None, column: str) -> np.ndarray:
    """Return a number for each group, masked where the raw value is missing."""
    names = [] if kept is None else kept.column_names
    if kept is None or column not in names:
        raise DatasetError(
            f"The group column '{column}' must be kept beside the dataset, but only "
            f"these are: {', '.join(names) or 'none'}. Add it to data.keep and prepare "
            f"anew."
        )
    values = kept.column(column).combine_chunks()
    if len(values) == 0:
        return np.zeros(0, dtype=np.int32)
    if not pa.types.is_dictionary(values.type):
        values = pc.dictionary_encode(values)
    codes = values.indices
    return np.ma.array(
        pc.fill_null(codes, 0).to_numpy(zero_copy_only=False),
        mask=pc.is_null(codes).to_numpy(zero_copy_only=False),
    )
