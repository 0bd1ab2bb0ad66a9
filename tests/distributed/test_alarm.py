from __future__ import annotations

from dlrm.config.watch import WatchConfig
from dlrm.distributed.alarm import Alarm
from dlrm.distributed.stalls import Standing
from dlrm.distributed.watch import Phase
from dlrm.distributed.whereabouts import Waits


def standings(still: float, *, moves: int = 4) -> list[Standing]:
    """Return rank 0, which waits for rank 1, both for ``still`` seconds."""
    return [
        Standing(rank=0, phase=Phase.step, moves=5, still=still, waits=Waits.surely),
        Standing(rank=1, phase=Phase.data, moves=moves, still=still, detail="batch 2"),
    ]


def test_a_stall_is_told_again_with_growing_pauses():
    alarm = Alarm(WatchConfig(), rank=0)
    told = [
        second
        for second in range(200)
        if alarm.lines(standings(float(second)), now=1000.0 + second)
    ]
    assert told == [11, 21, 41, 81, 161]


def test_the_culprit_does_not_accuse_itself():
    alarm = Alarm(WatchConfig(), rank=1)
    assert alarm.lines(standings(20.0), now=0.0) == []
    assert alarm.last_words.startswith("Rank 1 has not moved for 20 s: in batch 2")


def test_it_is_told_when_the_culprit_moves_again():
    alarm = Alarm(WatchConfig(), rank=0)
    assert len(alarm.lines(standings(33.6), now=0.0)) == 1
    assert alarm.lines(standings(0.1), now=0.5) == ["Rank 1 moves again after 34 s."]
    assert alarm.lines(standings(0.1), now=1.0) == []
    assert alarm.last_words == ""


def test_a_second_stall_of_the_same_rank_is_told_at_once():
    alarm = Alarm(WatchConfig(), rank=0)
    alarm.lines(standings(12.0), now=0.0)
    alarm.lines(standings(0.1), now=0.5)
    assert len(alarm.lines(standings(12.0), now=12.5)) == 1


def test_a_job_that_stands_together_is_told_by_all_and_moves_again():
    for rank in range(2):
        alarm = Alarm(WatchConfig(), rank=rank)
        alike = [
            Standing(rank=r, phase=Phase.step, moves=3, still=15.0, waits=Waits.surely)
            for r in range(2)
        ]
        (line,) = alarm.lines(alike, now=0.0)
        assert line.startswith("No rank has moved for 15 s.")
        assert alarm.lines(standings(0.0), now=1.0) == [
            "The job moves again after 15 s."
        ]


def test_there_is_no_hope_after_the_limit_for_giving_up():
    alarm = Alarm(WatchConfig(give_up=100.0), rank=0)
    alarm.lines(standings(99.0), now=0.0)
    assert not alarm.hopeless
    alarm.lines(standings(101.0), now=2.0)
    assert alarm.hopeless


def test_a_store_that_is_silent_is_told_of_and_so_is_its_return():
    alarm = Alarm(WatchConfig(give_up=100.0), rank=1)
    assert alarm.store_lines("", 0.0, now=0.0) == []
    assert alarm.store_lines("The store is silent.", 12.0, now=12.0) == [
        "The store is silent."
    ]
    assert alarm.store_lines("The store is silent.", 13.0, now=13.0) == []
    assert alarm.store_lines("", 0.0, now=14.0) == [
        "The job's store answers again after 13 s."
    ]
    alarm.store_lines("The store is silent.", 101.0, now=120.0)
    assert alarm.hopeless
