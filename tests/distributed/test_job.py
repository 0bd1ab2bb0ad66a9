"""Processes that work together learn of each other's errors."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from dlrm.config.errors import RunError
from dlrm.distributed.job import ALONE, OtherRankError, job_over
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")


def work_together(group: dist.ProcessGroup, kinds: list[str]) -> str:
    """Return a rank's result, or its error."""
    errors = {"user": RunError(f"rank {group.rank()}"), "disk": OSError("full")}

    def work() -> str:
        kind = kinds[group.rank()]
        if kind in errors:
            raise errors[kind]
        return f"done {group.rank()}"

    try:
        return job_over(group).together(work)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_every_process_gets_its_own_result(two_ranks: Ranks):
    assert two_ranks.run(work_together, ["", ""]) == ["done 0", "done 1"]


@pytest.mark.parametrize(("kinds", "rank"), [(["", "user"], 1), (["user", "user"], 0)])
def test_a_users_error_is_the_same_on_all(
    kinds: list[str], rank: int, two_ranks: Ranks
):
    found = two_ranks.run(work_together, kinds)
    assert found == [f"RunError: rank {rank}"] * 2


def test_another_error_stays_with_its_process_and_stops_the_others(two_ranks: Ranks):
    other, own = two_ranks.run(work_together, ["", "disk"])
    assert own == "OSError: full"
    assert other.startswith(f"{OtherRankError.__name__}: Rank 1 stopped the job")


def write_once(group: dist.ProcessGroup, bad: bool) -> str:
    def write() -> str:
        if bad:
            raise OSError("full")
        return "written"

    try:
        return job_over(group).by_writer(write)
    except Exception as error:
        return type(error).__name__


def test_the_writers_result_or_its_error_reaches_all(two_ranks: Ranks):
    assert two_ranks.run(write_once, False) == ["written", "written"]
    assert two_ranks.run(write_once, True) == ["OSError", "OtherRankError"]


def test_one_process_needs_no_one():
    assert ALONE.together(lambda: 3) == 3
    with pytest.raises(OSError, match="full"):
        ALONE.together(lambda: (_ for _ in ()).throw(OSError("full")))
