"""Ranks that hang or fail, over real stores and between real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.distributed import watched_jobs
from tests.distributed.watched_jobs import CULPRIT
from tests.embeddings.sharded.ranks import Ranks

ROOT = Path(__file__).parents[2]


def test_the_rank_that_sleeps_over_a_batch_is_named_by_the_other(two_ranks: Ranks):
    (other, _), (own, _) = two_ranks.run(watched_jobs.sleep_in_data)
    first, *_, last = other.splitlines()
    assert first.startswith(f"[rank 0] Rank {CULPRIT} has not moved for ")
    assert ": in batch 1, at " in first
    assert "watched_jobs.py:" in first
    assert first.endswith("; limit 1 s (watch.data).")
    assert last.startswith(f"[rank 0] Rank {CULPRIT} moves again after ")
    # Who waits for the sleeper is not to blame; later steps may stall on any machine.
    assert ": in step 1, at " not in own


def test_work_of_one_rank_raises_no_alarm_within_its_phases_limit(two_ranks: Ranks):
    for written, error in two_ranks.run(watched_jobs.evaluate_for_long):
        assert (written, error) == ("", "")


def test_the_others_learn_why_a_rank_failed_and_at_once(two_ranks: Ranks):
    (_, first, seconds), (_, second, _) = two_ranks.run(watched_jobs.fail_on_one_rank)
    assert second == "DataError: Row 17 is bad."
    assert first == "OtherRankError: Rank 1 stopped the job: Row 17 is bad."
    assert seconds < 8.0


def test_a_ranks_own_error_stays_what_it_is(two_ranks: Ranks):
    (_, first), (_, second) = two_ranks.run(watched_jobs.fail_alone)
    assert first == "ZeroDivisionError: nothing to divide by"
    assert second == ""


@dataclass
class Ended:
    """A process that ended, and when."""

    code: int
    stderr: str
    seconds: float


class Program:
    """Ranks of one job as processes of their own."""

    def __init__(self, kind: str, *, give_up: float = 6.0, world_size: int = 3) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = []
        self.began = time.monotonic()
        for rank in range(world_size):
            variables = os.environ | {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                "LOCAL_WORLD_SIZE": str(world_size),
                "OMP_NUM_THREADS": "1",
            }
            module = "tests.distributed.watched_jobs"
            command = [sys.executable, "-m", module, kind, str(give_up)]
            self.processes.append(
                subprocess.Popen(
                    command,
                    env=variables,
                    cwd=ROOT,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )

    def wait_for_step(self, rank: int, step: int) -> None:
        stdout = self.processes[rank].stdout
        assert stdout is not None
        assert any(line == f"{step}\n" for line in stdout)

    def wait(self, rank: int, *, seconds: float) -> Ended:
        process = self.processes[rank]
        _, text = process.communicate(timeout=seconds)
        return Ended(process.returncode, text, time.monotonic() - self.began)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "own_code", "message", "code"),
    [
        ("error", 2, "OtherRankError: Rank 1 stopped the job: Row 17 is bad.", 2),
        ("bug", 1, "OtherRankError: Rank 1 stopped the job: KeyError: 'x'", 2),
        ("killed", -9, "RankGoneError: Rank 1 is gone (its process ", 75),
    ],
)
def test_when_one_rank_ends_the_others_do_within_seconds_and_say_why(
    kind: str, own_code: int, message: str, code: int
):
    with Program(kind) as program:
        own = program.wait(CULPRIT, seconds=60)
        for rank in (0, 2):
            ended = program.wait(rank, seconds=30)
            assert message in ended.stderr
            assert "Traceback" not in ended.stderr
            assert ended.code == code
            assert ended.seconds - own.seconds < 15.0
    assert own.code == own_code


@pytest.mark.slow
def test_a_stopped_rank_is_named_and_ends_the_job_after_the_limit():
    with Program("stopped") as program:
        process = program.processes[CULPRIT]
        told = []
        for rank in (0, 2):
            ended = program.wait(rank, seconds=90)
            # Whichever limit comes first names it: of the step, or of signs of life.
            named = f"[rank {rank}] Rank {CULPRIT} has "
            lines = ended.stderr.splitlines()
            assert any(line.startswith(named) for line in lines), lines
            assert ended.code == 75
            told.append(ended.stderr)
        # Who ends first takes the store along.
        stopped = f"{process.pid} on {socket.gethostname()} is stopped"
        assert any(
            stopped in text and "The job ends after 6 s (watch.give_up)." in text
            for text in told
        ), told


@pytest.mark.slow
def test_a_rank_that_is_asked_to_stop_inside_a_collective_does_not_linger():
    with Program("stopped", give_up=600.0) as program:
        other = program.processes[0]
        program.wait_for_step(0, 10)
        time.sleep(1.0)
        # Python's own handler cannot run: the main thread waits for the stopped rank.
        other.send_signal(signal.SIGTERM)
        ended = program.wait(0, seconds=60)
        assert "[rank 0] This process was asked to stop " in ended.stderr
        assert "still is in step 10, at " in ended.stderr
        assert ended.code == 128 + signal.SIGTERM


@pytest.mark.slow
def test_where_the_stores_own_rank_is_stopped_the_others_say_so():
    with Program("undisturbed") as program:
        program.wait_for_step(1, 20)
        program.processes[0].send_signal(signal.SIGSTOP)
        ended = program.wait(1, seconds=90)
        assert "Rank 0, which keeps the job's store, has not answered for" in (
            ended.stderr
        )
        assert "is stopped by a signal" in ended.stderr
        assert ended.code == 75
