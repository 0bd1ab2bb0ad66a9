"""Let every single call on files of a save, a training or a preparation fail in turn.

    python -m tests.faults what=save              every call, every error and kill
    python -m tests.faults what=train minutes=30  the command, as far as time goes
    python -m tests.faults what=prepare minutes=30
    python -m tests.faults what=prepare part=2 of=3   a third of them; for a core each
    python -m tests.faults what=prepare skip=400      without the first so many

Afterwards the old or the new state is whole, the message names the file and the reason,
the exit code is 2, and the same command, given again, ends as if nothing had been.
"""

from __future__ import annotations

import errno
import random
import re
import shutil
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.lives import (
    KILL_AFTER,
    KILL_BEFORE,
    Fault,
    Life,
    import_all,
    live,
    preloaded,
)
from tests.faults.stories import PREPARE, SHORT, copied_preset, observed

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EIO: "Input/output error",
    errno.EROFS: "Read-only file system",
    errno.EACCES: "Permission denied",
}
KILLS = (KILL_BEFORE, KILL_AFTER)
USER_ERROR = 2


def main(arguments: list[str]) -> int:
    """Run the faults asked for; return 1 where one was not survived."""
    settings = {"what": "save", "minutes": "600", "seed": "0", "step": "1"}
    settings |= {"part": "1", "of": "1", "skip": "0"}
    settings |= dict(text.split("=", 1) for text in arguments)
    random.seed(int(settings["seed"]))
    import_all()
    top = Path(tempfile.mkdtemp(prefix="dlrm-faults-"))
    kinds = {"save": Saves, "train": Trainings, "prepare": Preparations}
    case = kinds[settings["what"]](top)
    bad = inject(
        case,
        every=int(settings["step"]),
        part=slice(int(settings["part"]) - 1, None, int(settings["of"])),
        skip=int(settings["skip"]),
        seconds=60 * float(settings["minutes"]),
    )
    if not bad:
        shutil.rmtree(top)
    return 1 if bad else 0


def inject(
    case: Case,
    *,
    every: int,
    seconds: float,
    part: slice = slice(None),
    skip: int = 0,
) -> list[str]:
    """Let calls 1, 1 + every, ... fail in every way; return what went wrong.

    ``part`` of those are tried, without its first ``skip``, in an order that depends on
    the seed alone, until ``seconds`` are over.
    """
    deadline = time.monotonic() + seconds
    faults = [
        Fault(call=call, mode=mode)
        for call in range(1, case.num_calls + 1, every)
        for mode in (*case.modes, *KILLS)
    ]
    random.shuffle(faults)
    faults = faults[part][skip:]
    outcomes: Counter[str] = Counter()
    bad: list[str] = []
    for fault in faults:
        if time.monotonic() > deadline:
            break
        try:
            outcomes[case.survive(fault)] += 1
        except AssertionError as error:
            bad.append(f"{fault}: {error}")
            print(bad[-1], flush=True)
    tried = f"{sum(outcomes.values()) + len(bad)} of {len(faults)} faults"
    shown = ", ".join(f"{n} {name}" for name, n in outcomes.most_common())
    print(f"{tried} at {case.num_calls} calls: {shown}; {len(bad)} not survived")
    return bad


class Case(ABC):
    """Work that is done once whole, and then again with each fault."""

    modes: tuple[int, ...] = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)
    num_calls: int

    @abstractmethod
    def survive(self, fault: Fault) -> str:
        """Let ``fault`` befall the work; return how it took it."""

    def judge(self, life: Life, fault: Fault, folder: Path) -> str:
        """Check how a life ended, and what it said."""
        if life.killed:
            assert fault.mode in KILLS, "killed, but not by the shim"
            return "killed"
        assert "Traceback" not in life.output, life.output
        if life.code == 0:
            return "unharmed"
        assert life.code == USER_ERROR, f"exit code {life.code}: {life.output}"
        reason = REASONS[fault.mode]
        assert reason.lower() in life.output.lower(), life.output
        named = str(folder) in life.output or "outputs" in life.output
        # A whole word: the folder of datasets may be what refuses.
        named = named or re.search(r"\bprepared\b", life.output) is not None
        assert named, f"no file named: {life.output}"
        if fault.mode == errno.ENOSPC:
            assert "are left" in life.output, life.output
        return "told"


class Saves(Case):
    """A second checkpoint beside a first one that is the best."""

    def __init__(self, top: Path) -> None:
        from tests.checkpoints.test_checkpoint import Learner

        self.learner = Learner()
        self.learner.train(range(2))
        self.top = top
        self.first = top / "first"
        self.first.mkdir()
        self._save(self.first, 1)
        self.learner.train(range(2, 3))
        self.num_calls = live(self._second, folder=self._copy("whole")).num_calls

    def _save(self, root: Path, step: int) -> None:
        from dlrm.checkpoints.rotation import mark_best, remove_old_checkpoints

        self.learner.save(root, step)
        mark_best(root, step=step, metric="auc", value=step / 10)
        remove_old_checkpoints(root, keep=1)

    def _second(self) -> int:
        from dlrm.config.errors import WriteError

        try:
            self._save(Path.cwd(), 2)
        except WriteError as error:
            print(error)
            return USER_ERROR
        return 0

    def _copy(self, name: str) -> Path:
        folder = self.top / name
        shutil.copytree(self.first, folder)
        return folder

    def survive(self, fault: Fault) -> str:
        from dlrm.checkpoints.load import read_state
        from dlrm.checkpoints.rotation import best_checkpoint, list_checkpoints

        folder = self._copy("again")
        try:
            life = live(self._second, folder=folder, fault=fault)
            outcome = self.judge(life, fault, folder)
            whole = list_checkpoints(folder)
            assert whole, "no checkpoint is left"
            for checkpoint in whole:
                read_state(checkpoint)
            best_checkpoint(folder)
            after = live(self._second, folder=folder)
            assert after.code == 0, after.output
            left = sorted(path.name for path in folder.iterdir())
            assert left == ["best.json", "step_000000002"], left
        finally:
            shutil.rmtree(folder)
        return outcome


class Commands(Case):
    """A command line in a folder of its own."""

    command: tuple[str, ...]

    def __init__(self, top: Path) -> None:
        self.top = top
        self.first = top / "first"
        self.begin(self.first)
        whole = self._copy("whole")
        life = live(self._run(), folder=whole)
        assert life.code == 0, life.output
        self.num_calls, self.expected = life.num_calls, observed(whole)

    def begin(self, folder: Path) -> None:
        """Fill the folder that each life starts from."""
        copied_preset(self.top, folder)

    def _run(self) -> Callable[[], int]:
        from dlrm.commands.main import main as dlrm

        return lambda: dlrm(list(self.command))

    def _copy(self, name: str) -> Path:
        folder = self.top / name
        shutil.copytree(self.first, folder)
        return folder

    def survive(self, fault: Fault) -> str:
        folder = self._copy("again")
        try:
            outcome = self.judge(
                live(self._run(), folder=folder, fault=fault), fault, folder
            )
            after = live(self._run(), folder=folder)
            assert after.code == 0, after.output
            found = observed(folder)
            differing = [
                name
                for name in sorted({*found, *self.expected})
                if found.get(name) != self.expected.get(name)
            ]
            assert not differing, differing
        finally:
            shutil.rmtree(folder)
        return outcome


class Preparations(Commands):
    """``dlrm prepare``."""

    command = PREPARE


class Trainings(Commands):
    """``dlrm train`` on a prepared dataset."""

    command = SHORT

    def begin(self, folder: Path) -> None:
        from dlrm.commands.main import main as dlrm

        super().begin(folder)
        life = live(lambda: dlrm(list(PREPARE)), folder=folder)
        assert life.code == 0, life.output


if __name__ == "__main__":
    preloaded("tests.faults", sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
