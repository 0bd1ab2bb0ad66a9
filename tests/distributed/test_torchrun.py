"""Whole jobs under torchrun: killed, stopped and started again, they end the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dlrm.metric_log import read_metrics
from tests.runs import digest, tiny_overrides

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("torchrun")]

SECONDS = 150
LONG = (
    "trainer.num_epochs=12", "trainer.log_every=1", "trainer.checkpoint_every=10",
    "trainer.evaluate_every=40", "optimizer.sparse.name=rowwise_adagrad",
    "sharding.strategy=row_wise",
)  # fmt: skip
"""84 steps."""


@contextmanager
def torchrun(
    *overrides: str, processes: int = 2, max_restarts: int = 0
) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", f"--max-restarts={max_restarts}",
        "-m", "dlrm", "train", *overrides,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as job:
        try:
            yield job
        finally:
            if job.poll() is None:
                for child in psutil.Process(job.pid).children(recursive=True):
                    child.kill()
                job.kill()


def output_of(job: subprocess.Popen[str]) -> str:
    text, _ = job.communicate(timeout=SECONDS)
    return text


def wait_for_step(run: Path, step: int) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if run.is_dir() and any(r["step"] >= step for r in read_metrics(run)):
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was never logged")


def rank_process(job: subprocess.Popen[str], rank: int) -> psutil.Process:
    for child in psutil.Process(job.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"no process is rank {rank}")


def last_checkpoint(run: Path) -> dict[str, str]:
    return digest(sorted((run / "checkpoints").glob("step_*"))[-1])


def last_loss(run: Path) -> float:
    return [r["loss"] for r in read_metrics(run) if "loss" in r][-1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    overrides = tiny_overrides(folder, "run_name=run", *LONG, prepared=prepared)
    with torchrun(*overrides) as job:
        text = output_of(job)
    assert job.returncode == 0, text
    return folder / "outputs/run"


def test_a_killed_rank_comes_back_and_the_run_ends_as_if_it_had_not_died(
    tmp_path: Path, prepared: Path, undisturbed: Path
):
    step = random.Random(os.urandom(8)).randrange(1, 80)
    overrides = tiny_overrides(tmp_path, "run_name=run", *LONG, prepared=prepared)
    run = tmp_path / "outputs/run"
    with torchrun(*overrides, max_restarts=2) as job:
        wait_for_step(run, step)
        rank_process(job, 1).send_signal(signal.SIGKILL)
        text = output_of(job)
    assert job.returncode == 0, f"killed at step {step}:\n{text}"
    assert last_loss(run) == last_loss(undisturbed), f"killed at step {step}"
    assert last_checkpoint(run) == last_checkpoint(undisturbed)
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["run"]


def test_sigterm_saves_and_ends_all_ranks_and_the_run_goes_on(
    tmp_path: Path, prepared: Path, undisturbed: Path
):
    overrides = tiny_overrides(tmp_path, "run_name=run", *LONG, prepared=prepared)
    run = tmp_path / "outputs/run"
    with torchrun(*overrides) as job:
        wait_for_step(run, 23)
        ranks = [rank_process(job, rank) for rank in range(2)]
        sent = time.monotonic()
        job.send_signal(signal.SIGTERM)
        text = output_of(job)
    assert job.returncode != 0
    assert time.monotonic() - sent < 30, text
    assert not any(rank.is_running() for rank in ranks)
    assert text.count("Go on with: dlrm train") == 1, text
    assert 'Traceback (most recent call last):\n  File "/dlrm' not in text
    stopped = max(r["step"] for r in read_metrics(run))
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    assert newest.name == f"step_{stopped:09d}"
    with torchrun(*overrides, "resume=true") as job:
        text = output_of(job)
    assert job.returncode == 0, text
    assert last_checkpoint(run) == last_checkpoint(undisturbed)


def test_a_rank_that_stands_still_is_named_by_the_other_and_the_run_ends_the_same(
    tmp_path: Path, prepared: Path, undisturbed: Path
):
    overrides = tiny_overrides(tmp_path, "run_name=run", *LONG, prepared=prepared)
    run = tmp_path / "outputs/run"
    with torchrun(*overrides, "watch.give_up=60") as job:
        wait_for_step(run, 12)
        stopped = rank_process(job, 1)
        stopped.send_signal(signal.SIGSTOP)
        since = time.monotonic()
        said = []
        assert job.stdout is not None
        for line in job.stdout:
            said.append(line)
            if "Rank 1 has given no sign of life" in line:
                break
        seconds = time.monotonic() - since
        stopped.send_signal(signal.SIGCONT)
        text = "".join(said) + output_of(job)
    assert job.returncode == 0, text
    assert seconds < 20, text
    line = said[-1]
    assert line.startswith("[rank 0]"), line
    assert "last seen in" in line, line
    assert ".py:" in line, line
    assert last_checkpoint(run) == last_checkpoint(undisturbed)
