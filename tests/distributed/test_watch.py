"""Marks, places and signs of life, within one process."""

from __future__ import annotations

import os
import signal
import threading
import time
import timeit
from pathlib import Path

import pytest

from dlrm.config.busy import file_of, reading, writing
from dlrm.config.errors import ConfigError
from dlrm.config.watch import WatchConfig
from dlrm.data.background import in_background
from dlrm.distributed.beats import decode, encode
from dlrm.distributed.job import ALONE
from dlrm.distributed.peer_errors import is_peer_error
from dlrm.distributed.peers import life_of
from dlrm.distributed.signal_pipe import SignalPipe
from dlrm.distributed.stalls import End, Life, Standing
from dlrm.distributed.watch import NO_WATCH, Phase, Watch
from dlrm.distributed.whereabouts import Waits, whereabouts


def test_entering_a_phase_is_a_move_and_touching_it_is_none():
    watch = Watch()
    assert (watch.mark.phase, watch.mark.moves) == (Phase.start, 0)
    watch.enter(Phase.step, "step 57")
    entered = watch.mark
    assert entered[:3] == (Phase.step, "step 57", 1)
    watch.touch()
    assert watch.mark[:3] == entered[:3]
    assert watch.mark.at > entered.at
    watch.touch("table 3 of 8")
    assert watch.mark[:3] == (Phase.step, "table 3 of 8", 1)


def test_a_mark_costs_next_to_nothing():
    watch = Watch()
    loops = 2000
    best = min(
        timeit.repeat(lambda: watch.enter(Phase.step, "57"), number=loops, repeat=5)
    )
    assert best / loops < 20e-6


def test_one_process_is_watched_by_nobody():
    assert ALONE.watch is NO_WATCH


@pytest.mark.parametrize("key", ["step", "prepare", "silence", "give_up"])
def test_a_limit_of_zero_is_refused(key: str):
    with pytest.raises(ConfigError, match=rf"watch\.{key} must be above 0.*is 0"):
        WatchConfig(**{key: 0.0})


def test_a_thread_stands_in_our_own_code_and_says_which_file_it_is_at():
    release = threading.Event()

    def rows():
        with reading("prepared/train/shard_00003"):
            release.wait(10)
            yield 1

    thread = threading.Thread(target=lambda: list(in_background(rows())))
    thread.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = whereabouts(thread.ident or 0)
        if found.file:
            break
        time.sleep(0.01)
    release.set()
    thread.join()
    # It waits for rows; they are being read on a thread of their own.
    assert found.place.startswith("dlrm/data/background.py:")
    assert ", for dlrm/data/background.py:" in found.place
    assert found.file == "reading prepared/train/shard_00003"
    assert found.waits is Waits.no


def test_a_thread_that_has_ended_stands_nowhere():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert whereabouts(thread.ident or 0).place == ""


def test_files_within_files_come_back():
    own = threading.get_ident()
    with writing(Path("a")):
        with reading("b"):
            assert file_of(own) == "reading b"
        assert file_of(own) == "writing a"
    assert file_of(own) == ""


def test_a_standing_survives_the_journey():
    standing = Standing(
        rank=3,
        phase=Phase.save,
        detail="step 7",
        moves=9,
        still=1.5,
        place="dlrm/trainer.py:1",
        file="writing ü",
        waits=Waits.perhaps,
        end=End.failed,
        message="Row 17\nis bad.",
        host="node1",
        pid=12,
    )
    beat = decode(
        encode(standing, number=5, machine="m"), rank=3, arrived=1.0, exchange=2
    )
    assert beat.standing == standing
    assert (beat.number, beat.machine) == (5, "m")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:3"), True),
        (RuntimeError("Timed out waiting 600000ms for recv operation"), True),
        (RuntimeError("NCCL communicator was aborted on rank 1."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("Connection reset by peer"), False),
        (KeyError("x"), False),
    ],
)
def test_errors_of_a_lost_connection_are_told_from_others(error, expected):
    assert is_peer_error(error) is expected


def test_an_error_that_comes_of_a_lost_connection_is_one():
    error = TypeError("unsupported")
    error.__cause__ = RuntimeError("Connection closed by peer")
    assert is_peer_error(error)


def test_processes_are_alive_stopped_or_dead():
    assert life_of(os.getpid()) is Life.unknown
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    os.kill(child, signal.SIGSTOP)
    os.waitpid(child, os.WUNTRACED)
    assert life_of(child) is Life.stopped
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert life_of(child) is Life.dead  # Although nobody has taken notice yet.
    os.waitpid(child, 0)
    assert life_of(child) is Life.dead


def test_a_signal_reaches_a_thread_while_the_main_thread_is_elsewhere():
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    pipe = SignalPipe()
    try:
        assert pipe.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        pipe.wait(5.0)
        assert pipe.received is not None
        assert pipe.received[0] == signal.SIGTERM
    finally:
        pipe.close()
        signal.signal(signal.SIGTERM, before)


def test_the_signals_belong_to_their_former_owner_again():
    first = SignalPipe()
    second = SignalPipe()
    second.close()
    assert signal.set_wakeup_fd(-1) != -1
    first.close()
    signal.set_wakeup_fd(-1)
