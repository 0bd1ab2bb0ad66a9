"""Processes that meet in a store are not misled by what earlier ones left in it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from torch.distributed import HashStore, Store

from dlrm.config.errors import RankGoneError
from dlrm.distributed.meeting import meet

SOON = timedelta(seconds=20)


def life_of(store: Store, world_size: int, *, last_comes_late: bool = False) -> None:
    """Let a job's processes meet, and check that they find each other alone."""
    found: dict[int, Store] = {}

    def run(rank: int) -> None:
        found[rank] = meet(store, rank=rank, world_size=world_size, timeout=SOON)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads[:-1]:
        thread.start()
    if last_comes_late:
        # The others have read whatever an earlier process of this rank has left.
        threads[0].join(0.3)
        assert threads[0].is_alive()
    threads[-1].start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == list(range(world_size))
    for rank, own in found.items():
        assert not own.check([f"address of {rank}"])
    for rank, own in found.items():
        own.set(f"address of {rank}", "here")
    for own in found.values():
        assert all(own.check([f"address of {rank}"]) for rank in found)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_later_lives_of_a_job_do_not_see_earlier_ones(world_size: int):
    store = HashStore()
    for late in (False, world_size > 1, False):
        life_of(store, world_size, last_comes_late=late)


def test_a_life_may_end_before_all_have_met():
    store = HashStore()
    with pytest.raises(RankGoneError, match=r"Rank 1 has not come within 0 seconds"):
        meet(store, rank=0, world_size=2, timeout=timedelta(seconds=0.1))
    life_of(store, 2)
