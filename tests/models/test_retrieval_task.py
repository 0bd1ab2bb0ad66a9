"""The task's loss against a double loop over rows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from dlrm.config.task import TaskConfig, TaskName
from dlrm.data.catalogue import Catalogue
from dlrm.data.document_keys import DocumentKeys
from dlrm.models.task import RetrievalTask, build_task
from tests.data.documents import FEATURES, batch_of, document_schema, rows_of

ROWS = [
    (0, 1, [3, 4], 0.5),
    (1, 2, [3], 0.5),
    (2, 1, [4, 3], 0.5),  # The first row's document.
    (3, 2, [], 0.0),
    (4, 0, {2: 2.0}, 0.0),
    (5, 2, [3], 0.5),  # The second row's.
]
LABELS = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
WEIGHTS = [1.0, 0.5, 1.0, 2.0, 3.0, 0.0]
DOCUMENTS = [0, 1, 0, 2, 3, 1]
COUNTS = [10, 25, 5, 60]
SHARES = [count / 100 for count in COUNTS]


@pytest.fixture
def folder(tmp_path):
    schema, chosen = document_schema(), [0, 1, 3, 4]
    rows = rows_of(*(ROWS[i] for i in chosen))
    keys = DocumentKeys.of(schema, FEATURES)(batch_of(rows, schema)).numpy()
    order = np.argsort(keys)
    rows = rows_of(*(ROWS[chosen[i]] for i in order))
    Catalogue(FEATURES, keys[order], np.array(COUNTS)[order], rows).save(tmp_path)
    return tmp_path


def batch(size=None):
    rows = rows_of(*ROWS)
    rows.labels[:], rows.weights[:] = LABELS, WEIGHTS
    return batch_of(rows, document_schema(), size=size)


def sums_by_definition(vectors, *, corrected):
    loss = total = 0.0
    for i, own in enumerate(DOCUMENTS):
        if LABELS[i] != 1 or WEIGHTS[i] == 0:
            continue
        terms = {}
        for j, document in enumerate(DOCUMENTS):
            if WEIGHTS[j] == 0 or (j != i and document == own):
                continue
            score = float(np.dot(vectors[i, 0], vectors[j, 1]))
            terms[j] = score - (math.log(SHARES[document]) if corrected else 0)
        p = math.exp(terms[i]) / sum(math.exp(term) for term in terms.values())
        loss -= WEIGHTS[i] * math.log(p)
        total += WEIGHTS[i]
    return loss, total


def task_of(folder, **settings):
    config = TaskConfig(name=TaskName.retrieval, **settings)
    return build_task(config, document_schema(), folder, positive_weight=1.0)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("size", [None, 9])
def test_the_loss_is_that_of_the_definition_with_and_without_padding(
    folder, corrected, size
):
    task = task_of(folder, frequency_correction=corrected)
    vectors = np.random.default_rng(0).normal(size=(size or len(ROWS), 2, 3))
    loss, total = task.loss_sum(torch.from_numpy(vectors), batch(size))
    expected = sums_by_definition(vectors, corrected=corrected)
    assert (loss.item(), total.item()) == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_clicks_has_no_loss_and_a_gradient_of_zero(folder):
    given = dataclasses.replace(batch(), labels=torch.zeros(len(ROWS)))
    vectors = torch.randn(len(ROWS), 2, 3, requires_grad=True)
    loss, total = task_of(folder).loss_sum(vectors, given)
    assert (loss.item(), total.item()) == (0.0, 0.0)
    loss.backward()
    assert vectors.grad is not None
    assert not vectors.grad.any()


def test_the_task_is_built_by_its_name_alone(folder):
    assert isinstance(task_of(folder), RetrievalTask)
    assert TaskConfig(name=TaskName.retrieval).loss == TaskConfig().loss
