"""The judge of retrieval: is the document clicked among the first of all?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dlrm.config.schema import FeatureSchema
from dlrm.config.task import TaskConfig
from dlrm.data.catalogue import Catalogue
from dlrm.evaluation.document_names import document_names
from dlrm.evaluation.retrieval_report import describe_retrieval, retrieval_page
from dlrm.metrics.retrieval import (
    expected_rank,
    mean_reciprocal_rank,
    retrieval_ndcg_at_k,
    retrieval_recall_at_k,
)
from dlrm.metrics.undefined import UndefinedMetricError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dlrm.data.batch import Batch
    from dlrm.evaluation.page import Page
    from dlrm.evaluation.report import ReportContext
    from dlrm.evaluation.retrieval_predictions import RetrievalPredictions

_LISTED = 10
"""Documents that predictions list."""


@dataclass(frozen=True, slots=True)
class RetrievalJudge:
    """Recall at k and the reciprocal rank of each click's document among all."""

    schema: FeatureSchema
    catalogue: Catalogue
    names: pa.Array
    """What each document is called."""
    top_k: tuple[int, ...]
    """Ascending, 1 and 10 among them."""

    @classmethod
    def of(
        cls, task: TaskConfig, schema: FeatureSchema, folder: Path
    ) -> RetrievalJudge:
        """Read the documents from a run's folder.

        Raises:
            DatasetError: They are missing or damaged.
        """
        catalogue = Catalogue.load(folder)
        names = document_names(catalogue, schema, folder)
        return cls(schema, catalogue, names, tuple(sorted({1, 10, *task.top_k})))

    @property
    def logged(self) -> tuple[str, ...]:
        """What evaluations can be compared by, first."""
        return ("recall_at_10", "mrr", "recall_at_1", "ndcg_at_10")

    def collect(
        self, model: nn.Module, batches: Iterable[Batch], device: torch.device
    ) -> RetrievalPredictions:
        """Return each row's best documents and where its own one stands."""
        # Here, as torch is no part of judging predictions that are there already.
        from dlrm.evaluation.retrieval_predictions import collect_retrieval

        return collect_retrieval(
            model,
            batches,
            device,
            catalogue=self.catalogue,
            schema=self.schema,
            num_listed=_LISTED,
        )

    def concatenate(
        self, parts: Sequence[RetrievalPredictions]
    ) -> RetrievalPredictions:
        """Return all parts' rows as one."""
        from dlrm.evaluation.retrieval_predictions import concatenate_retrieval

        return concatenate_retrieval(parts)

    def metrics(
        self,
        found: RetrievalPredictions,
        kept: pa.Table | None = None,
        group_column: str | None = None,
    ) -> dict[str, Any]:
        """Return all metrics, over clicks alone; raw columns and groups are not read.

        Every click is a query of its own: the other documents that the same user
        clicked compete with its own one, as all others do.
        """
        clicks = (found.labels > 0) & (found.weights > 0)
        metrics: dict[str, Any] = {
            "num_examples": len(found),
            "num_queries": int(np.count_nonzero(clicks)),
            "num_documents": len(self.catalogue),
            "num_unknown_documents": int(np.count_nonzero(found.documents[clicks] < 0)),
        }
        undefined: dict[str, str] = {}
        rows = tuple(a[clicks] for a in (found.num_better, found.num_tied))
        for name, compute in self._definitions().items():
            try:
                metrics[name] = compute(*rows, found.weights[clicks])
            except UndefinedMetricError as reason:
                metrics[name], undefined[name] = None, str(reason)
        if undefined:
            metrics["undefined"] = undefined
        return metrics

    def _definitions(self) -> dict[str, Callable[..., float]]:
        definitions: dict[str, Callable[..., float]] = {}
        for k in self.top_k:
            definitions[f"recall_at_{k}"] = partial(retrieval_recall_at_k, k=k)
        definitions["mrr"] = mean_reciprocal_rank
        for k in self.top_k[1:]:  # At 1 it is recall.
            definitions[f"ndcg_at_{k}"] = partial(retrieval_ndcg_at_k, k=k)
        return definitions

    def predictions(self, found: RetrievalPredictions) -> dict[str, Any]:
        """Return row, label, own document and its rank, best ones, scores and weight.

        The rank is the mean over all orders of documents with equal scores. A document
        that is none of the catalogue's has neither name nor rank.
        """
        size = found.top_documents.shape[1]
        own = pa.array(found.documents, mask=found.documents < 0)
        ranks = expected_rank(found.num_better, found.num_tied)
        flat = pa.array(found.top_documents.reshape(-1))
        return {
            "row": found.row_ids,
            "label": found.labels.astype(np.int8),
            "document": self.names.take(own),
            "rank": pa.array(ranks, from_pandas=True),
            "found": _lists(self.names.take(flat), size),
            "scores": _lists(pa.array(found.top_scores.reshape(-1)), size),
            "weight": found.weights,
        }

    def scores(self, found: RetrievalPredictions) -> dict[str, Any]:
        """Return document_1, score_1, document_2, ...: the best documents."""
        columns: dict[str, Any] = {}
        for place in range(found.top_documents.shape[1]):
            chosen = pa.array(found.top_documents[:, place])
            columns[f"document_{place + 1}"] = self.names.take(chosen)
            columns[f"score_{place + 1}"] = found.top_scores[:, place]
        return columns

    def page(
        self,
        metrics: Mapping[str, Any],
        found: RetrievalPredictions,
        context: ReportContext,
    ) -> Page:
        """Return the report."""
        return retrieval_page(metrics, context=context)

    def describe(self, metrics: Mapping[str, Any]) -> str:
        """Return the metrics as an aligned table."""
        return describe_retrieval(metrics)


def _lists(values: pa.Array, size: int) -> pa.ListArray:
    starts = np.arange(0, len(values) + 1, size, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(starts), values)
