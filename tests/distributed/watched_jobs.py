"""What ranks do under a watchman's eyes: jobs of the pool, and a program."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable

import torch
import torch.distributed as dist

from dlrm.config.errors import DataError, OtherRankError, RankGoneError
from dlrm.config.watch import WatchConfig
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.job import Job, job_over, joined
from dlrm.distributed.process_group import default_store
from dlrm.distributed.watch import Phase, Watch
from dlrm.distributed.watchman import Watchman

CULPRIT = 1
EXIT_CODES = {OtherRankError: 2, DataError: 2, RankGoneError: 75}


def _watched(
    group: dist.ProcessGroup,
    config: WatchConfig,
    body: Callable[[Watch, Job], None],
    hear: Callable[[str], None] | None = None,
) -> tuple[str, str]:
    """Return what the watchman wrote, but to ``hear``, and the error of ``body``."""
    context = ProcessContext(rank=group.rank(), world_size=group.size())
    written: list[str] = []
    job = job_over(group, context)
    watchman = Watchman(context, config, write=hear or written.append)
    watchman.start()
    error = ""
    try:
        with watchman.over(default_store()):
            body(watchman.watch, job)
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    watchman.close()
    return "".join(written), error


def sleep_in_data(group: dist.ProcessGroup) -> tuple[str, str]:
    """One rank sleeps over a batch until the other has named it; then both go on."""
    told = job_over(group).broadcast(f"told/{uuid.uuid4()}")
    store = default_store().clone()
    written: list[str] = []
    deadline = time.monotonic() + 40.0

    def hear(line: str) -> None:
        written.append(line)
        store.set(told, "yes")

    def body(watch: Watch, job: Job) -> None:
        for step in itertools.count():
            watch.enter(Phase.data, f"batch {step}")
            if job.rank == CULPRIT and step == 1:
                while time.monotonic() < deadline and not store.check([told]):
                    time.sleep(0.1)
            watch.enter(Phase.step, f"step {step}")
            over = time.monotonic() > deadline or "moves again" in "".join(written)
            if job.all_sum(torch.tensor([float(over)])).item():
                return
            time.sleep(0.1)

    _, error = _watched(group, WatchConfig(step=1.0, data=1.0), body, hear)
    return "".join(written), error


def evaluate_for_long(group: dist.ProcessGroup) -> tuple[str, str]:
    """The first rank evaluates longer than a step may take, the others wait."""

    def body(watch: Watch, job: Job) -> None:
        watch.enter(Phase.step, "step 1")
        job.all_sum(torch.ones(1))
        watch.enter(Phase.evaluate, "the validation split")
        job.by_writer(lambda: time.sleep(1.8))

    return _watched(group, WatchConfig(step=0.5, data=0.5), body)


def fail_on_one_rank(group: dist.ProcessGroup) -> tuple[str, str, float]:
    """One rank meets a bad row; the others would wait for a value of its."""
    began = time.monotonic()

    def body(watch: Watch, job: Job) -> None:
        watch.enter(Phase.step, "step 1")
        if job.rank == CULPRIT:
            raise DataError("Row 17 is bad.")
        # As a collective of a job whose connections the failed one has closed.
        raise RuntimeError("Connection closed by peer [127.0.0.1]:4711")

    written, error = _watched(group, WatchConfig(), body)
    return written, error, time.monotonic() - began


def fail_alone(group: dist.ProcessGroup) -> tuple[str, str]:
    """A rank's error that no other one is to blame for stays what it is."""

    def body(watch: Watch, job: Job) -> None:
        if job.rank == 0:
            raise ZeroDivisionError("nothing to divide by")
        time.sleep(1.5)
        job.watch.touch()

    return _watched(group, WatchConfig(), body)


def main(kind: str, give_up: float) -> int:
    """Train, so to speak, until something of the ``kind`` happens to one rank."""
    config = WatchConfig(step=3.0, data=3.0, give_up=give_up)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with joined(torch.device("cpu"), watch=config) as job:
            for step in range(1000):
                job.watch.enter(Phase.step, f"step {step}")
                print(step, flush=True)
                if step == 10 and job.rank == CULPRIT:
                    _happen(kind)
                job.all_sum(torch.ones(3))
                time.sleep(0.1)
    except tuple(EXIT_CODES) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return EXIT_CODES[type(error)]
    return 0


def _happen(kind: str) -> None:
    if kind == "error":
        raise DataError("Row 17 is bad.")
    if kind == "undisturbed":
        return
    if kind == "bug":
        raise KeyError("x")
    number = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[kind]
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
