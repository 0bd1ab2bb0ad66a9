"""The judge of tasks with classes: are the first ones listed right?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dlrm.config.schema import FeatureSchema
from dlrm.config.task import ClassLoss, TaskConfig
from dlrm.data.storage.rows import starts_of
from dlrm.data.transforms.vocabulary import LABEL_CLASSES, Vocabulary
from dlrm.evaluation.class_report import class_page, describe_classes
from dlrm.metrics.at_k import mean_loss, precision_at_k, recall_at_k
from dlrm.metrics.undefined import UndefinedMetricError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dlrm.data.batch import Batch
    from dlrm.evaluation.class_predictions import ClassPredictions
    from dlrm.evaluation.page import Page
    from dlrm.evaluation.report import ReportContext


@dataclass(frozen=True, slots=True)
class ClassJudge:
    """Precision and recall at k, log loss and, of one class a row, accuracy."""

    names: pa.Array
    """What each class is called, by class id."""
    loss: ClassLoss
    top_k: tuple[int, ...]
    """Ascending, 1 first."""
    one_a_row: bool

    @classmethod
    def of(
        cls, task: TaskConfig, schema: FeatureSchema, folder: Path, *, one_a_row: bool
    ) -> ClassJudge:
        """Read the classes' names from a run's or dataset's folder.

        Raises:
            DatasetError: They are missing or damaged.
        """
        classes = Vocabulary.load(folder, LABEL_CLASSES, schema.num_classes + 1)
        top_k = tuple(sorted({1, *task.top_k}))
        return cls(classes.keys, task.loss, top_k, one_a_row)

    @property
    def logged(self) -> tuple[str, ...]:
        """Log loss, then precision and recall at 1."""
        own = ("accuracy",) if self.one_a_row else ()
        return ("log_loss", "precision_at_1", "recall_at_1", *own)

    def collect(
        self, model: nn.Module, batches: Iterable[Batch], device: torch.device
    ) -> ClassPredictions:
        """Return each row's best classes, own classes and loss."""
        # Here, as torch is no part of judging predictions that are there already.
        from dlrm.evaluation.class_predictions import collect_classes

        return collect_classes(
            model, batches, device, loss=self.loss, num_listed=self.top_k[-1]
        )

    def concatenate(self, parts: Sequence[ClassPredictions]) -> ClassPredictions:
        """Return all parts' rows as one."""
        from dlrm.evaluation.class_predictions import concatenate_classes

        return concatenate_classes(parts)

    def metrics(
        self,
        found: ClassPredictions,
        kept: pa.Table | None = None,
        group_column: str | None = None,
    ) -> dict[str, Any]:
        """Return all metrics; raw columns and groups are not read."""
        metrics: dict[str, Any] = {
            "num_examples": len(found),
            "num_classes": len(self.names),
            "num_labels": int(found.num_labels.sum()),
            "num_unknown_labels": int(np.count_nonzero(found.labels < 0)),
            "num_unlabelled_examples": int(np.count_nonzero(found.num_labels == 0)),
        }
        undefined: dict[str, str] = {}
        for name, compute in self._definitions(found).items():
            try:
                metrics[name] = compute()
            except UndefinedMetricError as reason:
                metrics[name], undefined[name] = None, str(reason)
        if undefined:
            metrics["undefined"] = undefined
        return metrics

    def _definitions(self, found: ClassPredictions) -> dict[str, Callable[[], float]]:
        rows = (found.hits(), found.num_labels, found.weights)
        definitions: dict[str, Callable[[], float]] = {
            "log_loss": lambda: mean_loss(found.losses, found.weights)
        }
        if self.one_a_row:
            definitions["accuracy"] = lambda: precision_at_k(*rows, 1)
        for k in self.top_k:
            definitions[f"precision_at_{k}"] = lambda k=k: precision_at_k(*rows, k)  # type: ignore[misc]
            definitions[f"recall_at_{k}"] = lambda k=k: recall_at_k(*rows, k)  # type: ignore[misc]
        return definitions

    def predictions(self, found: ClassPredictions) -> dict[str, Any]:
        """Return row, own classes, best classes with probabilities, loss and weight.

        An own class that training never saw is null.
        """
        offsets = pa.array(starts_of(found.num_labels).astype(np.int32))
        own = pa.array(found.labels, mask=found.labels < 0)
        size = found.top_classes.shape[1]
        return {
            "row": found.row_ids,
            "labels": pa.ListArray.from_arrays(offsets, self.names.take(own)),
            "predicted": _lists(self.names.take(_flat(found.top_classes)), size),
            "probabilities": _lists(_flat(found.top_probabilities), size),
            "loss": found.losses,
            "weight": found.weights,
        }

    def scores(self, found: ClassPredictions) -> dict[str, Any]:
        """Return class_1, probability_1, class_2, ...: the best classes."""
        columns: dict[str, Any] = {}
        for place in range(found.top_classes.shape[1]):
            chosen = pa.array(found.top_classes[:, place])
            columns[f"class_{place + 1}"] = self.names.take(chosen)
            probability = found.top_probabilities[:, place]
            columns[f"probability_{place + 1}"] = probability
        return columns

    def page(
        self,
        metrics: Mapping[str, Any],
        found: ClassPredictions,
        context: ReportContext,
    ) -> Page:
        """Return the report."""
        return class_page(metrics, context=context)

    def describe(self, metrics: Mapping[str, Any]) -> str:
        """Return the metrics as an aligned table."""
        return describe_classes(metrics)


def _flat(values: np.ndarray) -> pa.Array:
    return pa.array(values.reshape(-1))


def _lists(values: pa.Array, size: int) -> pa.ListArray:
    starts = np.arange(0, len(values) + 1, size, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(starts), values)
