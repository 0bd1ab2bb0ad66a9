"""Metrics of all ranks' rows are one process's, however the rows were dealt."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlrm.config.task import ClassLoss
from dlrm.data.batch import Batch
from dlrm.data.catalogue import Catalogue
from dlrm.data.loading.whole_batches import WholeBatches
from dlrm.distributed.job import ALONE, Job, job_over
from dlrm.evaluation import gathering
from dlrm.evaluation.class_predictions import ClassPredictions
from dlrm.evaluation.classes import ClassJudge
from dlrm.evaluation.clicks import ClickJudge
from dlrm.evaluation.gathering import collect_over_ranks
from dlrm.evaluation.predictions import Predictions
from dlrm.evaluation.retrieval import RetrievalJudge
from dlrm.evaluation.retrieval_predictions import RetrievalPredictions
from tests.builders import random_rows, small_schema
from tests.data.documents import document_schema, rows_of
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")

NUM_ROWS, NUM_CLASSES, NUM_DOCUMENTS = 60, 5, 2


def of_clicks(rows: np.ndarray) -> Predictions:
    random = np.random.default_rng(0)
    logits = random.normal(size=NUM_ROWS).round(1).astype(np.float32)
    labels = random.integers(0, 2, NUM_ROWS).astype(np.float32)
    weights = random.random(NUM_ROWS, dtype=np.float32)
    return Predictions(rows, logits[rows], labels[rows], weights[rows])


def of_classes(rows: np.ndarray) -> ClassPredictions:
    random = np.random.default_rng(1)
    num_labels = random.integers(0, 3, NUM_ROWS, dtype=np.int32)
    bags = [random.integers(-1, NUM_CLASSES, n, dtype=np.int32) for n in num_labels]
    order = np.argsort(random.random((NUM_ROWS, NUM_CLASSES)), axis=1)
    losses = random.random(NUM_ROWS)
    own = [bags[row] for row in rows]
    return ClassPredictions(
        row_ids=rows,
        top_classes=order[rows, :2].astype(np.int32),
        top_probabilities=random.random((NUM_ROWS, 2), dtype=np.float32)[rows],
        losses=np.where(num_labels > 0, losses, np.nan)[rows],
        num_labels=num_labels[rows],
        labels=np.concatenate([np.zeros(0, np.int32), *own]),
        weights=random.random(NUM_ROWS, dtype=np.float32)[rows],
    )


def of_documents(rows: np.ndarray) -> RetrievalPredictions:
    random = np.random.default_rng(2)
    documents = random.integers(-1, NUM_DOCUMENTS, NUM_ROWS)
    better = np.where(documents < 0, -1, random.integers(0, 9, NUM_ROWS))
    tied = np.where(documents < 0, 0, random.integers(1, 4, NUM_ROWS))
    return RetrievalPredictions(
        row_ids=rows,
        documents=documents[rows],
        num_better=better[rows],
        num_tied=tied[rows],
        top_documents=np.zeros((len(rows), 2), dtype=np.int32),
        top_scores=random.random((NUM_ROWS, 2), dtype=np.float32)[rows],
        labels=random.integers(0, 2, NUM_ROWS).astype(np.float32)[rows],
        weights=random.random(NUM_ROWS, dtype=np.float32)[rows],
    )


def judges() -> dict[str, tuple[Any, Any]]:
    """Return each task's judge, and its predictions of some rows."""
    names = pa.array([f"class {i}" for i in range(NUM_CLASSES)], pa.large_string())
    documents = rows_of((0, 1, [3, 2], 0.0), (0, 5, [], 0.5))
    keys, counts = np.array([4, 9]), np.array([2, 1])
    catalogue = Catalogue(("s1", "s2", "d1"), keys, counts, documents)
    return {
        "clicks": (ClickJudge(), of_clicks),
        "classes": (
            ClassJudge(names, ClassLoss.softmax, (1, 2), one_a_row=False),
            of_classes,
        ),
        "documents": (
            RetrievalJudge(
                document_schema(), catalogue, pa.array(["one", "five"]), (1, 4, 10)
            ),
            of_documents,
        ),
    }


@pytest.mark.parametrize("name", list(judges()))
@settings(deadline=None, max_examples=25)
@given(data=st.data(), num_ranks=st.integers(1, 5))
def test_metrics_are_equal_to_the_bit_however_rows_are_dealt(
    name: str, data: st.DataObject, num_ranks: int
):
    judge, predictions_of = judges()[name]
    ranks = st.integers(0, num_ranks - 1)
    rank_of = np.array(data.draw(st.lists(ranks, min_size=60, max_size=60)))
    parts = [predictions_of(np.flatnonzero(rank_of == r)) for r in range(num_ranks)]
    found = judge.concatenate(parts)
    assert found.row_ids.tolist() == list(range(NUM_ROWS))
    metrics = judge.metrics(found)
    assert metrics == judge.metrics(predictions_of(np.arange(NUM_ROWS)))
    assert None not in metrics.values()


SCHEMA = small_schema()


class Scorer(nn.Module):
    """A logit of the dense columns and of how many ids the row has."""

    def forward(self, batch: Batch) -> torch.Tensor:
        bags = batch.sparse["pooled"]
        lengths = bags.lengths().view(len(bags.keys()), -1).sum(0)
        return (batch.dense.sum(1) + 0.1 * lengths)[:, None]


def collected(job: Job, num_rows: int) -> Predictions | None:
    rows = random_rows(SCHEMA, num_rows=num_rows)
    whole = WholeBatches(
        SCHEMA, batch_size=3, rank=job.rank, world_size=job.world_size
    ).of_rows(rows)
    cpu = torch.device("cpu")
    return collect_over_ranks(ClickJudge(), Scorer(), whole, cpu, job)


def collected_on_rank(group: dist.ProcessGroup, sizes: list[int]) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "_BATCHES_AT_A_TIME", 2)
        return [collected(job_over(group), size) for size in sizes]


def test_the_first_rank_gets_all_rows_in_order_and_the_others_none(two_ranks: Ranks):
    sizes = [1, 3, 4, 6, 12, 13, 25]
    first, second = two_ranks.run(collected_on_rank, sizes)
    assert second == [None] * len(sizes)
    for found, size in zip(first, sizes, strict=True):
        alone = collected(ALONE, size)
        assert found.raw_logits is alone.raw_logits is None
        for field in dataclasses.fields(Predictions):
            if field.name == "raw_logits":
                continue
            ours, theirs = getattr(found, field.name), getattr(alone, field.name)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
