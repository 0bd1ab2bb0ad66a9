"""Who is named: the definition, case by case."""

from __future__ import annotations

import dataclasses

import pytest

from dlrm.config.watch import WatchConfig
from dlrm.distributed.stalls import (
    End,
    Life,
    Standing,
    decide,
    describe,
    failed,
    gone,
    gone_sentence,
    limits_of,
)
from dlrm.distributed.watch import Phase
from dlrm.distributed.whereabouts import Waits

LIMITS = limits_of(WatchConfig())


def waiting(rank: int, **values) -> Standing:
    """Return a rank that waits in the all-reduce of step 57 for 12 s already."""
    first = Standing(
        rank=rank,
        phase=Phase.step,
        detail="step 57",
        moves=115,
        still=12.0,
        place="dlrm/learner.py:201",
        waits=Waits.surely,
        host="node1",
        pid=4000 + rank,
    )
    return dataclasses.replace(first, **values)


def in_data(rank: int, **values) -> Standing:
    return waiting(
        rank,
        **{
            "phase": Phase.data,
            "detail": "batch 57",
            "moves": 114,
            "waits": Waits.no,
            "place": "dlrm/data/loading/loader.py:88",
            **values,
        },
    )


def named(*standings: Standing, silence: float = 30.0) -> list[int]:
    found = decide(standings, LIMITS, silence=silence)
    return [] if found is None else [each.rank for each in found.culprits]


def test_who_has_moved_least_is_named_and_not_those_that_wait_for_it():
    assert named(waiting(0), in_data(1), waiting(2)) == [1]


def test_two_that_hang_in_the_same_way_are_both_named():
    assert named(waiting(0), in_data(1), waiting(2), in_data(3)) == [1, 3]


def test_at_equal_moves_the_one_outside_a_collective_is_named():
    assert named(waiting(0), waiting(1, waits=Waits.no), waiting(2)) == [1]


def test_a_backward_pass_may_wait_but_work_outside_it_does_not():
    backward = waiting(0, waits=Waits.perhaps)
    assert named(backward, waiting(1), waiting(2, waits=Waits.no)) == [2]
    assert named(backward, waiting(1)) == [0]


def test_nobody_is_named_before_the_limit():
    assert named(waiting(0, still=9.9), in_data(1, still=9.9)) == []


def test_those_that_wait_are_not_named_while_the_one_behind_is_within_its_limit():
    saving = in_data(0, phase=Phase.save, still=200.0)
    assert named(saving, waiting(1, still=200.0), waiting(2, still=200.0)) == []
    late = dataclasses.replace(saving, still=301.0)
    assert named(late, waiting(1, still=301.0)) == [0]


@pytest.mark.parametrize("hours", [1, 24])
def test_preparing_data_may_take_a_day(hours: int):
    still = hours * 3600.0
    standings = [
        waiting(rank, phase=Phase.prepare, still=still, waits=waits)
        for rank, waits in enumerate([Waits.no, Waits.surely, Waits.surely])
    ]
    assert named(*standings) == []


def test_a_command_that_never_marks_a_move_has_no_limits():
    assert named(waiting(0, moves=0, still=1e6), waiting(1, moves=0, still=1e6)) == []


def test_evaluating_raises_no_alarm_while_batches_come():
    evaluating = {"phase": Phase.evaluate, "still": 30.0}
    assert named(waiting(0, **evaluating), in_data(1, **evaluating)) == []


def test_one_that_counts_moves_of_its_own_is_named_when_all_others_wait():
    assert named(in_data(0, moves=300), waiting(1), waiting(2)) == [0]


def test_a_silent_process_is_named_as_soon_as_another_waits_too_long():
    # It was stopped right after a heartbeat in a phase of a long limit.
    silent = waiting(1, phase=Phase.save, still=8.0, silent=8.0)
    assert named(waiting(0), silent, waiting(2)) == [1]


def test_silence_alone_is_named_after_its_own_limit():
    fine = waiting(0, still=0.1)
    assert named(fine, waiting(1, still=8.0, silent=8.0)) == []
    assert named(fine, waiting(1, phase=Phase.save, still=31.0, silent=31.0)) == [1]
    preparing = waiting(1, phase=Phase.prepare, still=200.0, silent=200.0)
    assert named(fine, preparing) == []
    assert named(fine, dataclasses.replace(preparing, silent=301.0)) == [1]


def test_who_has_left_is_never_named():
    done = waiting(1, moves=0, still=500.0, silent=500.0, end=End.done)
    assert named(waiting(0, still=0.0), done) == []


def test_where_all_wait_alike_it_is_the_network_or_a_collective():
    standings = [waiting(rank) for rank in range(3)]
    found = decide(standings, LIMITS, silence=30.0)
    assert found is not None
    assert found.together
    (line,) = describe(found, LIMITS)
    assert line == (
        "No rank has moved for 12 s. All wait for one another: the network, or a "
        "collective that not all entered alike. rank 0 in step 57, at "
        "dlrm/learner.py:201; rank 1 in step 57, at dlrm/learner.py:201; rank 2 in "
        "step 57, at dlrm/learner.py:201; limit 10 s (watch.step)."
    )


def test_nobody_is_accused_of_waiting_before_all_have_waited_too_long():
    assert named(waiting(0), waiting(1, still=9.0)) == []


def test_thousands_that_wait_alike_do_not_fill_the_log():
    standings = [waiting(rank) for rank in range(2000)]
    found = decide(standings, LIMITS, silence=30.0)
    assert found is not None
    (line,) = describe(found, LIMITS)
    assert "; and 1992 more; limit" in line
    assert len(line) < 1000


def test_a_culprit_is_named_with_its_step_place_file_and_limit():
    culprit = in_data(1, file="reading prepared/clicks/train/shard_00003")
    found = decide([waiting(0), culprit], LIMITS, silence=30.0)
    assert found is not None
    assert describe(found, LIMITS) == [
        "Rank 1 has not moved for 12 s: in batch 57, at "
        "dlrm/data/loading/loader.py:88, reading prepared/clicks/train/shard_00003; "
        "limit 10 s (watch.data)."
    ]


@pytest.mark.parametrize(
    ("life", "words"),
    [
        (Life.stopped, "its process 4001 on node1 is stopped by a signal"),
        (Life.unknown, "its process 4001 on node1 or that machine hangs"),
        (Life.dead, "its process 4001 on node1 has died"),
    ],
)
def test_a_silent_culprit_is_told_with_what_the_system_knows(life: Life, words: str):
    found = decide([waiting(0), waiting(1, silent=12.0, life=life)], LIMITS, silence=30)
    assert found is not None
    assert describe(found, LIMITS) == [
        f"Rank 1 has given no sign of life for 12 s: {words}; it was last seen in "
        f"step 57, at dlrm/learner.py:201."
    ]


def test_a_dead_process_is_gone_at_once_and_a_silent_one_later():
    dead = waiting(2, life=Life.dead)
    assert gone([waiting(1), dead], silence=600.0) is dead
    silent = waiting(1, silent=500.0)
    assert gone([silent], silence=600.0) is None
    assert gone([silent], silence=400.0) is silent
    assert "no sign of life for 500 s from node1" in gone_sentence(silent)


def test_a_stopped_process_is_not_gone_as_it_may_go_on():
    assert gone([waiting(1, silent=900.0, life=Life.stopped)], silence=600.0) is None


def test_who_ended_on_anothers_account_did_not_fail():
    bad = waiting(2, end=End.failed, message="Row 17 is bad.")
    assert failed([waiting(0, end=End.followed), waiting(1), bad]) is bad
    assert failed([waiting(0, end=End.done), waiting(1, end=End.followed)]) is None


def test_every_phase_has_a_setting():
    assert limits_of(WatchConfig(prepare=5.0, step=None))[Phase.prepare] == 5.0
    assert limits_of(WatchConfig(step=None))[Phase.step] is None
    assert set(LIMITS) == set(Phase)
