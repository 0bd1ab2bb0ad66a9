"""A run's probabilities, put right: by the keep rate, then by its recalibrator.

``calibration.json`` in a run holds what ``fit_calibration`` found:

====================  ==============================================================
``checkpoint``        the checkpoint whose logits it is for, and for no other's
``split``             the split it was fitted on
``num_examples``      rows of that split, whatever they weigh
``num_positives``     clicks among them
``order``             what is done to a logit, first things first:
                      ``["log_keep_rate", "platt"]``, or ``["platt"]``
``keep_rate``         the rate, ``{"column": NAME}``, or null
``recalibrator``      the map: its ``method`` and numbers
====================  ==============================================================
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import RunError
from dlrm.config.strangers import parse_json
from dlrm.evaluation.true_rate import LOG_KEEP_RATE, to_true_rate
from dlrm.metrics.calibration import calibration, ece_of_bins, reliability_bins
from dlrm.metrics.likelihood import log_loss
from dlrm.metrics.recalibration import (
    Recalibrator,
    fit_recalibrator,
    recalibrator_from,
)
from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError

if TYPE_CHECKING:
    from dlrm.evaluation.predictions import Predictions

CALIBRATION_FILE = "calibration.json"
_NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted recalibrator and what it is for; see the file's table above."""

    checkpoint: str
    split: str
    num_examples: int
    num_positives: int
    order: tuple[str, ...]
    keep_rate: float | dict[str, str] | None
    recalibrator: Recalibrator

    @property
    def method(self) -> str:
        """The recalibrator's name."""
        return str(self.recalibrator.record()["method"])

    def record(self) -> dict[str, Any]:
        """Return the content of calibration.json."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return fields | {
            "order": list(self.order),
            "recalibrator": self.recalibrator.record(),
        }

    def save(self, folder: Path) -> None:
        """Write calibration.json into a run; one that is there is replaced whole.

        Raises:
            RunError: It cannot be written; what was there is unchanged.
        """
        path = folder / CALIBRATION_FILE
        aside = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            aside.write_text(json.dumps(self.record(), indent=2) + "\n")
            flush_to_disk(aside)
            aside.replace(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise RunError(
                f"The recalibrator must be written to {path}, but that failed: "
                f"{error.strerror or error}. Make room or mend the folder's "
                f"permissions."
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Calibration | None:
        """Read a run's calibration.json; None where there is none.

        Raises:
            RunError: It is damaged.
        """
        path = folder / CALIBRATION_FILE
        if not path.is_file():
            return None
        try:
            content = parse_json(path.read_text())
            content["recalibrator"] = recalibrator_from(content["recalibrator"])
            content["order"] = tuple(content["order"])
            found = cls(**content)
            wanted = _order(found.keep_rate is not None, found.method)
            if found.order != wanted:
                raise ValueError(f"its order is not {list(wanted)}")
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(
                f"{path} must hold a recalibrator, but it is damaged ({error}). Fit "
                f"one anew: dlrm calibrate run={folder} method=platt"
            ) from error
        return found


@dataclass(frozen=True, slots=True)
class Correction:
    """All that a run does to its model's logits before they are called true."""

    data: DataConfig
    calibration: Calibration | None = None

    @classmethod
    def of_run(cls, folder: Path, data: DataConfig, *, checkpoint: str) -> Correction:
        """Return the correction of a run's checkpoint.

        Raises:
            RunError: The run's recalibrator is damaged, or is another checkpoint's.
        """
        found = Calibration.load(folder)
        if found is not None and found.checkpoint != checkpoint:
            raise RunError(
                f"{folder / CALIBRATION_FILE} must be of the checkpoint that is used, "
                f"{checkpoint}, but it was fitted on {found.checkpoint}. Fit it anew: "
                f"dlrm calibrate run={folder} method={found.method} "
                f"checkpoint={checkpoint}"
            )
        return cls(data, found)

    @property
    def does_nothing(self) -> bool:
        """Say whether logits stay the model's own."""
        return self.calibration is None and self.data.keep_rate_key is None

    def apply(self, found: Any, side: pa.Table, *, sampled: bool) -> Any:
        """Return predictions with true logits; a row id is a place in ``side``.

        ``sampled`` says that non-clicks among these rows were thinned. Predictions of
        other tasks than clicks are given back as they are.
        """
        if self.data.keep_rate_key is not None:
            found = to_true_rate(found, self.data, side, sampled=sampled)
        if self.calibration is None:
            return found
        raw = found.logits if found.raw_logits is None else found.raw_logits
        logits = self.calibration.recalibrator.apply(found.logits)
        return dataclasses.replace(found, logits=logits, raw_logits=raw)


def fit_calibration(
    method: str,
    found: Predictions,
    data: DataConfig,
    *,
    checkpoint: str,
    split: str,
) -> Calibration:
    """Fit a recalibrator on predictions that are of the true rate already.

    Raises:
        RunError: The rows cannot be fitted, such as those of one class.
    """
    labels, logits, weights = found.labels, found.logits, found.weights
    try:
        recalibrator = fit_recalibrator(method, labels, logits, weights)
    except UndefinedMetricError as reason:
        raise RunError(
            f"calibration.method={method} must be fitted on rows of both classes that "
            f"the model ranks better than chance, but on the split {split} it cannot "
            f"be: {reason}. Enlarge the split (data.split_fractions), train longer, or "
            f"take another method."
        ) from reason
    column, rate = data.keep_rate_column, data.negative_keep_rate
    return Calibration(
        checkpoint=checkpoint,
        split=split,
        num_examples=len(labels),
        num_positives=int(np.count_nonzero(labels)),
        order=_order(data.keep_rate_key is not None, method),
        keep_rate=rate if column is None else {"column": column},
        recalibrator=recalibrator,
    )


def describe_recalibration(
    found: Predictions, correction: Correction
) -> dict[str, Any]:
    """Return the content of recalibration.json, of logits that were corrected.

    ``order``, ``keep_rate``, ``recalibrator``, ``checkpoint`` and ``fitted_on`` (a
    split) say what was done, the last three null without a recalibrator. ``raw`` and
    ``calibrated`` say what the model's logits and the corrected ones are worth on the
    evaluated rows: ``calibration``, ``ece``, ``log_loss``, null where undefined, and
    ``bins``, at most ten of equal mass, each with ``weight``, ``mean_probability``,
    ``click_rate``, ``lowest`` and ``highest``.
    """
    assert found.raw_logits is not None
    fitted, data = correction.calibration, correction.data
    rate = data.negative_keep_rate
    column = data.keep_rate_column
    order = [LOG_KEEP_RATE] if fitted is None else list(fitted.order)
    return {
        "order": order,
        "keep_rate": rate if column is None else {"column": column},
        "recalibrator": None if fitted is None else fitted.recalibrator.record(),
        "checkpoint": None if fitted is None else fitted.checkpoint,
        "fitted_on": None if fitted is None else fitted.split,
        "raw": reliability_record(found.labels, found.raw_logits, found.weights),
        "calibrated": reliability_record(found.labels, found.logits, found.weights),
    }


def reliability_record(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """Return calibration, ECE, log loss and bins of R rows, arrays [R]."""
    record: dict[str, Any] = dict.fromkeys(("calibration", "ece", "log_loss"))
    record["bins"] = []
    try:
        table = tabulate_scores(check_rows(labels, logits, weights))
    except UndefinedMetricError:
        return record
    record["ece"] = ece_of_bins(reliability_bins(table))
    bins = reliability_bins(table, num_bins=_NUM_BINS)
    columns: Mapping[str, np.ndarray] = {
        field.name: getattr(bins, field.name) for field in dataclasses.fields(bins)
    }
    record["bins"] = [
        {name: float(values[i]) for name, values in columns.items()}
        for i in range(len(bins.weight))
    ]
    for name, metric in (("calibration", calibration), ("log_loss", log_loss)):
        try:
            record[name] = metric(labels, logits, weights)
        except UndefinedMetricError:
            continue
    return record


def _order(has_rate: bool, method: str) -> tuple[str, ...]:
    return (LOG_KEEP_RATE, method) if has_rate else (method,)
