"""Steps taken together by processes whose sources differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch.distributed as dist

from dlrm.config.errors import DataError, OtherRankError
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import Collator, collate
from dlrm.distributed.job import ALONE, job_over
from dlrm.distributed.lockstep import alike, in_lockstep
from tests.data.mixed import MIXED, rows_of, schema_of
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")

SCHEMA = schema_of(*MIXED)
SIZES = ([3, 5, 1, 4, 4, 2, 7], [4, 4, 0, 6, 1], [])
"""Rows of each rank's batches: 7, 5 and none of them."""


def stream(rank: int, *, fails_at: int | None = None) -> Iterator[Batch]:
    """Yield a rank's batches; their row ids start at 1000 times the rank."""
    start = 1000 * rank
    for number, size in enumerate(SIZES[rank]):
        if number == fails_at:
            raise OSError("the disk is gone")
        rows = rows_of(SCHEMA, size, seed=number)
        yield collate(rows, np.arange(start, start + size), SCHEMA)
        start += size


def row_ids(group: dist.ProcessGroup, first: int) -> list[list[int]]:
    """Return the row ids of every step; rank r has the sizes of ``first + r``."""
    job = job_over(group)
    batches = in_lockstep(stream(first + job.rank), job, Collator(SCHEMA).padding)
    return [batch.row_ids.tolist() for batch in batches]


def check(found: list[list[list[int]]], sizes: tuple[list[int], ...]) -> None:
    assert len({len(steps) for steps in found}) == 1
    for step in zip(*found, strict=True):
        assert len({len(ids) for ids in step}) == 1
        assert len(step[0]) == max(sum(n >= 0 for n in ids) for ids in step)
    for rank, steps in enumerate(found):
        seen = Counter(n % 1000 for ids in steps for n in ids if n >= 0)
        assert seen == Counter(range(sum(sizes[rank])))


def test_steps_go_on_until_all_are_exhausted(two_ranks: Ranks):
    check(two_ranks.run(row_ids, 0), SIZES[:2])


def test_a_rank_without_a_single_batch_takes_part(two_ranks: Ranks):
    check(two_ranks.run(row_ids, 1), SIZES[1:])


@pytest.mark.slow
def test_ranks_with_seven_five_and_no_batches_finish_together():
    ranks = Ranks(3)
    try:
        found = ranks.run(row_ids, 0)
    finally:
        ranks.stop()
    check(found, SIZES)
    assert [len(steps) for steps in found] == [7, 7, 7]


def test_one_process_gets_its_batches_as_they_are():
    batches = list(stream(0))
    assert list(in_lockstep(batches, ALONE, Collator(SCHEMA).padding)) == batches
    assert list(alike([1, 2], ALONE, size=int)) == [1, 2]


def after_an_error(group: dist.ProcessGroup) -> tuple[int, str]:
    """Return how many steps there were before which error; rank 1's source fails."""
    job = job_over(group)
    source = stream(job.rank, fails_at=2 if job.rank else None)
    steps = 0
    try:
        for _ in in_lockstep(source, job, Collator(SCHEMA).padding):
            steps += 1
    except (OSError, OtherRankError) as error:
        return steps, f"{type(error).__name__}: {error}"
    return steps, ""


def test_an_error_of_one_source_ends_all_in_the_same_step(two_ranks: Ranks):
    first, second = two_ranks.run(after_an_error)
    assert first == (2, "OtherRankError: Rank 1 stopped the job; see its message.")
    assert second == (2, "OSError: the disk is gone")


def read_alike(group: dist.ProcessGroup, sizes: list[list[int]]) -> str | list[int]:
    job = job_over(group)
    try:
        return list(alike(sizes[job.rank], job, size=int))
    except DataError as error:
        return str(error)


def test_all_must_read_the_same_parts(two_ranks: Ranks):
    assert two_ranks.run(read_alike, [[3, 4], [3, 4]]) == [[3, 4], [3, 4]]
    for sizes, shown in (
        ([[3, 4], [3, 5]], "4, 5"),
        ([[3], [3, 1200]], "its end, 1,200"),
    ):
        for found in two_ranks.run(read_alike, sizes):
            assert f"different numbers of rows, by rank: {shown}. Give every" in found
