"""Lives of one command line: each a fork of a process that has all imported already.

What runs is the command's own ``main``; a preloaded library, ``shim.c``, counts what it
does to files and lets the n-th such call fail, or kills it there.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dlrm

SHIM = Path(__file__).with_name("shim.c")
PRELOAD = "LD_PRELOAD"
KILL_BEFORE, KILL_AFTER = -1, -2
"""Modes of the shim beside error numbers."""
HANG_SECONDS = 300.0
PLACES = ("prepare", "step", "save", "evaluation")


def preloaded(module: str, arguments: list[str]) -> bool:
    """Start this command anew under the shim; True where it already runs so."""
    if os.environ.get(PRELOAD, "").endswith("shim.so"):
        return True
    folder = tempfile.mkdtemp(prefix="dlrm-shim-")
    library = build_shim(Path(folder))
    environment = {
        **os.environ, PRELOAD: str(library), "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", module, *arguments]
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    finally:
        shutil.rmtree(folder)
    sys.exit(code)


def build_shim(folder: Path) -> Path:
    """Compile the shim; the compiler is the one that builds dlrm's own kernels."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("This needs a C compiler: apt-get install gcc")
    library = folder / "shim.so"
    options = ["-O1", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([compiler, *options, str(SHIM), "-ldl", "-lpthread"], check=True)
    return library


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a life. Nothing, by default."""

    call: int = 0
    """The number of the call on files, from 1; 0 for none."""
    mode: int = 0
    """An error number, ``KILL_BEFORE`` or ``KILL_AFTER``."""
    seconds: float | None = None
    """Killed after so long."""
    place: str = ""
    """Killed inside ``step`` or ``evaluation``, the ``call``-th."""


@dataclass(slots=True)
class Life:
    """How a life went."""

    code: int
    """The exit code; minus the signal that ended it."""
    output: str
    seconds: float
    num_calls: int
    """Calls on files so far."""
    places: list[str] = field(default_factory=list)
    """What it was in when it ended."""

    @property
    def killed(self) -> bool:
        """Say whether it was killed from outside."""
        return self.code == -signal.SIGKILL


class Board:
    """What a life tells of itself up to its last moment: memory that both share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)

    def enter(self, place: str, by: int) -> None:
        """Count a place up or down."""
        index = PLACES.index(place)
        self._memory[index] = self._memory[index] + by

    def places(self) -> list[str]:
        """Return what the life was in."""
        return [name for i, name in enumerate(PLACES) if self._memory[i]]

    def set_calls(self, count: int) -> None:
        """Keep the count of calls."""
        self._memory[64:72] = count.to_bytes(8, "little")

    @property
    def num_calls(self) -> int:
        """The last count that was kept."""
        return int.from_bytes(self._memory[64:72], "little")


def import_all() -> None:
    """Import what a life would, once; none of it starts a thread."""
    for module in pkgutil.walk_packages(dlrm.__path__, "dlrm."):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)


def live(work: Callable[[], int], *, folder: Path, fault: Fault | None = None) -> Life:
    """Run ``work`` in a fork whose current directory is ``folder``."""
    fault = fault or Fault()
    board = Board()
    output = folder.with_name(f"{folder.name}.output")
    sys.stdout.flush()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_born(work, folder, output, fault, board)
    status = _wait(child, started, fault.seconds)
    seconds = time.monotonic() - started
    return Life(
        code=os.waitstatus_to_exitcode(status),
        output=output.read_text(errors="replace"),
        seconds=seconds,
        num_calls=board.num_calls,
        places=board.places(),
    )


def _wait(child: int, started: float, kill_after: float | None) -> int:
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        lived = time.monotonic() - started
        if lived > HANG_SECONDS or (kill_after is not None and lived >= kill_after):
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.002)


def _be_born(
    work: Callable[[], int], folder: Path, output: Path, fault: Fault, board: Board
) -> None:
    code = 70
    try:
        os.chdir(folder)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        random.seed()
        _mark_places(board, fault)
        shim = ctypes.CDLL(None)
        call = 0 if fault.place else fault.call
        shim.shim_arm(os.fsencode(f"{folder}/"), ctypes.c_long(call), fault.mode, -1)
        code = work()
        board.set_calls(shim.shim_count())
        shim.shim_disarm()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _mark_places(board: Board, fault: Fault) -> None:
    import torch

    import dlrm.commands.evaluating
    import dlrm.data.preparation.prepare
    import dlrm.learner
    import dlrm.trainer

    trainer, learner = dlrm.trainer, dlrm.learner
    evaluation = _marked(trainer.collect_over_ranks, "evaluation", board)
    trainer.collect_over_ranks = evaluation
    judge = dlrm.commands.evaluating
    judge.evaluate_split = _marked(judge.evaluate_split, "evaluation", board)
    learner.save_contents = _marked(learner.save_contents, "save", board)
    step = _marked(learner.Learner.train_step, "step", board)
    learner.Learner.train_step = step
    prepare = dlrm.data.preparation.prepare
    prepare.prepare_source = _marked(prepare.prepare_source, "prepare", board)
    if fault.place == "step":
        # After the tables' update and before the dense part's.
        torch.Tensor.backward = _dying(torch.Tensor.backward, fault.call)
    if fault.place == "evaluation":
        trainer.collect_over_ranks = _dying(evaluation, fault.call)


def _marked(call: Callable, place: str, board: Board) -> Callable:
    def marked(*args, **kwargs):
        board.enter(place, 1)
        try:
            return call(*args, **kwargs)
        finally:
            board.enter(place, -1)

    return marked


def _dying(call: Callable, number: int) -> Callable:
    calls = [0]

    def dying(*args, **kwargs):
        calls[0] += 1
        found = call(*args, **kwargs)
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return dying
