"""How a task's predictions are made, measured and written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dlrm.config.schema import FeatureSchema
from dlrm.config.task import TaskConfig, TaskName

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from torch import nn

    from dlrm.data.batch import Batch
    from dlrm.evaluation.page import Page
    from dlrm.evaluation.report import ReportContext

Found: TypeAlias = Any
"""Predictions of a judge's own kind: a dataclass with ``row_ids``, int64 and rising."""


class Judge(Protocol):
    """One task's side of evaluation; the loss is the ``Task``'s."""

    @property
    def logged(self) -> tuple[str, ...]:
        """Keys of metrics that go to metrics.jsonl; the first four are printed."""
        ...

    def collect(
        self, model: nn.Module, batches: Iterable[Batch], device: torch.device
    ) -> Found:
        """Run the model over all batches and keep what the metrics need of each row."""
        ...

    def concatenate(self, parts: Sequence[Found]) -> Found:
        """Return all parts' rows as one."""
        ...

    def metrics(
        self,
        found: Found,
        kept: pa.Table | None = None,
        group_column: str | None = None,
    ) -> dict[str, Any]:
        """Return the content of metrics.json; ``kept`` are the rows' raw columns."""
        ...

    def predictions(self, found: Found) -> dict[str, Any]:
        """Return the columns of predictions.parquet that come before the raw ones."""
        ...

    def scores(self, found: Found) -> dict[str, Any]:
        """Return the columns that ``dlrm predict`` writes after row and id."""
        ...

    def page(
        self, metrics: Mapping[str, Any], found: Found, context: ReportContext
    ) -> Page:
        """Return the report, which is written as HTML and as Markdown."""
        ...

    def describe(self, metrics: Mapping[str, Any]) -> str:
        """Return the content of metrics.json as an aligned table, no newline last."""
        ...


def build_judge(task: TaskConfig, schema: FeatureSchema, folder: Path) -> Judge:
    """Return the judge of a run's task; ``folder`` is the run's.

    Raises:
        DatasetError: A vocabulary or the catalogue of documents is damaged.
    """
    # Imported as needed: the charts of clicks are no concern of other tasks.
    match task.resolved(schema.label_kind):
        case TaskName.click:
            from dlrm.evaluation.clicks import ClickJudge

            return ClickJudge()
        case TaskName.multiclass | TaskName.multilabel as name:
            from dlrm.evaluation.classes import ClassJudge

            return ClassJudge.of(
                task, schema, folder, one_a_row=name is TaskName.multiclass
            )
        case TaskName.retrieval:
            from dlrm.evaluation.retrieval import RetrievalJudge

            return RetrievalJudge.of(task, schema, folder)
