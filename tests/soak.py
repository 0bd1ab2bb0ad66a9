"""Train, evaluate and save in one process for a long time; nothing may grow.

    python -m tests.soak minutes=30

Half of the time goes to runs one after another, each with evaluations and checkpoints,
judged and dropped, as a sweep or a notebook would; the other half to one long run.
Memory is the resident set at the end of each run, or at each evaluation, without what
the allocator keeps of freed memory. After a third of the time it may not grow by more
than 2 %, and descriptors and threads not at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SETTINGS = (
    "data=synthetic", "data.synthetic.num_rows=40000", "model.embedding_dim=16",
    "trainer.global_batch_size=512", "trainer.log_every=5",
    "trainer.evaluate_every=20", "trainer.checkpoint_every=10",
    "trainer.num_threads=1", "logger.tensorboard=false",
)  # fmt: skip
WARM_UP = 1 / 3
"""Share of the time in which allocators and caches fill."""
TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process holds at a moment."""

    seconds: float
    memory: int
    descriptors: int
    threads: int


def main(arguments: list[str]) -> int:
    """Soak for some minutes, half in one long run; return 1 where anything grew."""
    settings = {"minutes": "30"} | dict(text.split("=", 1) for text in arguments)
    seconds, code = 30 * float(settings["minutes"]), 0
    for name, soak in (("many runs", many_runs), ("one run", one_run)):
        top = Path(tempfile.mkdtemp(prefix="dlrm-soak-"))
        try:
            samples = soak(seconds, top)
        finally:
            shutil.rmtree(top)
        bad = judge(samples)
        print(f"{name}: {describe(samples)} {' '.join(bad) or 'Nothing grew.'}")
        code = 1 if bad else code
    return code


def many_runs(seconds: float, top: Path) -> list[Sample]:
    """Train and judge run after run; return what was held after each."""
    from dlrm.commands.evaluate import evaluate
    from dlrm.commands.train import train

    started, samples = time.monotonic(), []
    while time.monotonic() - started < seconds:
        run = train(*_settings(top), "trainer.num_epochs=2", report=_unheard)
        evaluate(run.folder, split="valid", report=_unheard)
        shutil.rmtree(run.folder)
        del run
        samples.append(sample(time.monotonic() - started))
    return samples


def one_run(seconds: float, top: Path) -> list[Sample]:
    """Train one run without end; return what was held after each evaluation."""
    from dlrm.commands.train import train
    from dlrm.interrupts import RunInterruptedError

    started, samples = time.monotonic(), []

    def hear(line: str) -> None:
        if line.startswith("step"):
            samples.append(sample(time.monotonic() - started))
            if samples[-1].seconds > seconds:
                os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.suppress(RunInterruptedError):
        train(*_settings(top), "trainer.num_epochs=1000000", report=hear)
    return samples


def _settings(top: Path) -> tuple[str, ...]:
    return (*SETTINGS, f"output={top / 'outputs'}", f"data.prepared={top / 'prepared'}")


def sample(seconds: float) -> Sample:
    """Return what this process holds now, rubbish not counted.

    Nor what the allocator keeps of freed memory (``kernels/freed_memory.py``): that is
    as much as was ever in use at a time, which depends on how threads met.
    """
    gc.collect()
    give_back()
    return Sample(
        seconds=seconds,
        memory=psutil.Process().memory_info().rss,
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=len(os.listdir("/proc/self/task")),
    )


def give_back() -> None:
    """Have glibc give freed memory back; other allocators keep theirs."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def settled(samples: list[Sample]) -> list[Sample]:
    """Return the samples after warming up."""
    start = samples[-1].seconds * WARM_UP
    return [each for each in samples if each.seconds >= start]


def judge(samples: list[Sample]) -> list[str]:
    """Return what grew from the first quarter after warming up to the last one.

    Medians, as one run's peak leaves the allocator's arenas higher for a while.
    """
    later = settled(samples)
    quarter = max(len(later) // 4, 1)
    first, last = later[:quarter], later[-quarter:]
    bad = []
    grown = _median(last, "memory") / _median(first, "memory") - 1
    if grown > TOLERANCE:
        bad.append(f"Memory grew by {grown:.1%}; {TOLERANCE:.0%} are allowed.")
    for name in ("descriptors", "threads"):
        before, after = _median(first, name), _median(last, name)
        if after > before:
            bad.append(f"{name.capitalize()} grew from {before:.0f} to {after:.0f}.")
    return bad


def describe(samples: list[Sample]) -> str:
    """Return one line on how long, how much and how flat."""
    later = settled(samples)
    sizes = [each.memory / 1e6 for each in later]
    first, last = later[0], later[-1]
    return (
        f"{len(samples)} samples in {last.seconds / 60:.1f} minutes; after warming up "
        f"{min(sizes):.0f} to {max(sizes):.0f} MB resident (first {sizes[0]:.0f}, last "
        f"{sizes[-1]:.0f}), {first.descriptors} to {last.descriptors} descriptors, "
        f"{first.threads} to {last.threads} threads."
    )


def _median(samples: list[Sample], name: str) -> float:
    values = sorted(getattr(each, name) for each in samples)
    return float(values[len(values) // 2])


def _unheard(line: str) -> None:
    """Drop a line."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
