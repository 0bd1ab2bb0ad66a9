"""Sources that give ranks different numbers of batches: all finish, as one would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import pytest
import torch

from dlrm.data.batch import Batch
from dlrm.data.loading.collate import Collator
from dlrm.distributed.job import ALONE, Job
from dlrm.distributed.lockstep import in_lockstep
from dlrm.learner import Learner
from dlrm.run import Run, open_dataset
from tests.embeddings.sharded.ranks import Ranks
from tests.row_runs import on_rank, tiny_run

pytestmark = pytest.mark.xdist_group("ranks")


@pytest.fixture(scope="module")
def click_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run("clicks", tmp_path_factory.mktemp("one"))


STREAMS = ([5, 7, 6, 5, 4, 6, 5], [6, 3, 5, 8, 2], [])
"""Rows of each rank's batches: 7, 5 and none of them."""


def stream_rows() -> list[list[np.ndarray]]:
    """Return the row ids of every rank's batches, all of different rows."""
    start, found = 0, []
    for sizes in STREAMS:
        bounds = start + np.cumsum([0, *sizes])
        found.append([np.arange(a, b) for a, b in pairwise(bounds)])
        start = bounds[-1]
    return found


def batches_of(run: Run, row_ids: list[np.ndarray]) -> Iterator[Batch]:
    rows, collator = open_dataset(run).split("train"), Collator(run.schema)
    for ids in row_ids:
        yield collator.collate(rows.gather(ids), ids)


def trained_on_streams(
    run: Run, first: int, num_streams: int, job: Job
) -> dict[str, Any]:
    """Train on this rank's stream, or alone on all ranks' batches joined by step.

    Rank r has stream ``first + r``.
    """
    streams = stream_rows()[first : first + num_streams]
    if job.world_size == 1:
        steps = zip_longest(*streams, fillvalue=np.zeros(0, dtype=np.int64))
        own = [np.concatenate(parts) for parts in steps]
    else:
        own = streams[job.rank]
    learner = Learner(run, torch.device("cpu"), job)
    found: dict[str, Any] = {"seen": Counter(), "losses": []}
    batches = in_lockstep(batches_of(run, own), job, Collator(run.schema).padding)
    for step, batch in enumerate(batches):
        found["seen"].update(n for n in batch.row_ids.tolist() if n >= 0)
        loss = learner.train_step(batch, step=step, rate_factor=1.0)
        found["losses"].append(loss.loss_sum / loss.weight_sum)
    # All tables and all of the dense part have their say in it.
    rows = open_dataset(run).split("test")
    batch = Collator(run.schema).collate(
        rows.slice(0, rows.num_rows), np.arange(rows.num_rows)
    )
    with torch.no_grad():
        found["logits"] = learner.model.eval()(batch).numpy()
    return found


def check_streams(run: Run, ranks: Ranks, first: int) -> None:
    found = ranks.run(
        on_rank, partial(trained_on_streams, run, first, ranks.world_size)
    )
    alone = trained_on_streams(run, first, ranks.world_size, ALONE)
    seen = sum((own["seen"] for own in found), Counter[int]())
    assert seen == alone["seen"]
    assert set(seen.values()) == {1}
    for own in found:
        assert np.isfinite(own["logits"]).all()
        np.testing.assert_allclose(own["losses"], alone["losses"], rtol=1e-5)
        np.testing.assert_allclose(own["logits"], alone["logits"], rtol=0, atol=1e-5)
    assert len(alone["losses"]) == max(len(sizes) for sizes in STREAMS[first:])


@pytest.mark.parametrize("first", [0, 1], ids=["7 and 5", "5 and none"])
def test_uneven_streams_train_as_one_process_on_their_union(
    click_run: Run, two_ranks: Ranks, first: int
):
    check_streams(click_run, two_ranks, first)


@pytest.mark.slow
def test_streams_of_seven_five_and_no_batches_train_as_their_union(click_run: Run):
    ranks = Ranks(3)
    try:
        check_streams(click_run, ranks, 0)
    finally:
        ranks.stop()
