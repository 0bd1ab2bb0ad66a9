"""The judge of click probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.errors import DatasetError
from dlrm.evaluation.bayes import BAYES_COLUMN, CAPPED_COLUMN, compare_with_bayes
from dlrm.evaluation.calibrated import reliability_record
from dlrm.evaluation.terminal import format_metrics
from dlrm.metrics.intervals import metric_intervals
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.summary import compute_metrics

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dlrm.data.batch import Batch
    from dlrm.evaluation.page import Page
    from dlrm.evaluation.predictions import Predictions
    from dlrm.evaluation.report import ReportContext


@dataclass(frozen=True, slots=True)
class ClickJudge:
    """Ranking and calibration of one probability a row."""

    logged: tuple[str, ...] = (
        "auc",
        "log_loss",
        "normalized_entropy",
        "calibration",
        "pr_auc",
    )

    def collect(
        self, model: nn.Module, batches: Iterable[Batch], device: torch.device
    ) -> Predictions:
        """Return every row's logit, label and weight."""
        # Here, as torch is no part of judging predictions that are there already.
        from dlrm.evaluation.predictions import collect_predictions

        return collect_predictions(model, batches, device)

    def concatenate(self, parts: Sequence[Predictions]) -> Predictions:
        """Return all parts' rows as one."""
        from dlrm.evaluation.predictions import concatenate_predictions

        return concatenate_predictions(parts)

    def metrics(
        self,
        found: Predictions,
        kept: pa.Table | None = None,
        group_column: str | None = None,
    ) -> dict[str, Any]:
        """Return all metrics; with ``kept`` their ``intervals`` too, as nothing waits.

        With ``kept``'s column ``bayes_probability`` they get an entry ``bayes``; with
        ``group_column`` in it they get ``gauc``; with logits that were corrected,
        ``raw_calibration``, ``raw_ece`` and ``raw_log_loss`` of the model's own.

        Raises:
            DatasetError: ``group_column`` is set but was not kept.
        """
        groups = None if group_column is None else _group_codes(kept, group_column)
        labels, weights = found.labels, found.weights
        metrics = compute_metrics(labels, found.logits, weights, groups)
        if found.raw_logits is not None:
            raw = reliability_record(labels, found.raw_logits, weights)
            for name in ("calibration", "ece", "log_loss"):
                metrics[f"raw_{name}"] = raw[name]
        if kept is not None:
            metrics["intervals"] = metric_intervals(
                labels, found.logits, weights, groups
            )
        if kept is not None and BAYES_COLUMN in kept.column_names:
            capped = None
            if CAPPED_COLUMN in kept.column_names:
                capped = _known(kept, CAPPED_COLUMN)
            truth = _known(kept, BAYES_COLUMN)
            metrics["bayes"] = compare_with_bayes(
                labels, truth, weights, metrics, capped
            )
        return metrics

    def predictions(self, found: Predictions) -> dict[str, Any]:
        """Return row, label, logit, probability and weight.

        ``logit`` is the model's own. Where a keep rate or a recalibrator corrects it,
        ``calibrated_logit`` comes last; ``probability`` is of that one then.
        """
        return {
            "row": found.row_ids,
            "label": found.labels.astype(np.int8),
            "logit": _own_logits(found),
            "probability": probabilities_from_logits(found.logits),
            "weight": found.weights,
            **_calibrated(found),
        }

    def scores(self, found: Predictions) -> dict[str, Any]:
        """Return probability and logit, and ``calibrated_logit`` where it differs."""
        return {
            "probability": probabilities_from_logits(found.logits),
            "logit": _own_logits(found),
            **_calibrated(found),
        }

    def page(
        self, metrics: Mapping[str, Any], found: Predictions, context: ReportContext
    ) -> Page:
        """Return the report."""
        # Here, as training judges too and draws nothing.
        from dlrm.evaluation.click_report import click_page

        return click_page(
            metrics,
            labels=found.labels,
            logits=found.logits,
            weights=found.weights,
            context=context,
        )

    def describe(self, metrics: Mapping[str, Any]) -> str:
        """Return the metrics as an aligned table."""
        return format_metrics(metrics)


def _own_logits(found: Predictions) -> np.ndarray:
    return found.logits if found.raw_logits is None else found.raw_logits


def _calibrated(found: Predictions) -> dict[str, np.ndarray]:
    return {} if found.raw_logits is None else {"calibrated_logit": found.logits}


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
