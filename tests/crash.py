"""Kill a run at random moments, resume it each time, and compare its end to the bit.

    python -m tests.crash kills=200 seed=0

Every life is the same command, ``dlrm train run_name=run resume=true ...``, and every
story of lives begins with nothing prepared. Kills are SIGKILL: at a random time, before
or after a random call on files (of a write, half is done), after the tables of a step
were updated and before the rest, and in an evaluation.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
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
from tests.faults.stories import COMMAND, copied_preset, observed

KILLS_A_STORY = 10


def main(arguments: list[str]) -> int:
    """Run the crash test; return its exit code."""
    settings = {"kills": "200", "seed": "0", "minutes": "600", "folder": ""}
    settings |= dict(text.split("=", 1) for text in arguments)
    random.seed(int(settings["seed"]))
    deadline = time.monotonic() + 60 * float(settings["minutes"])
    top = settings["folder"] or tempfile.mkdtemp(prefix="dlrm-crash-")
    import_all()
    test = CrashTest(Path(top))
    while test.num_kills < int(settings["kills"]) and time.monotonic() < deadline:
        test.tell(min(KILLS_A_STORY, int(settings["kills"]) - test.num_kills))
    print(test.summary())
    if not test.differing and not settings["folder"]:
        shutil.rmtree(top)
    return 1 if test.differing else 0


class CrashTest:
    """Stories of one run, each killed several times, against the undisturbed one."""

    def __init__(self, top: Path) -> None:
        """Run the command undisturbed once."""
        self.top = top
        self.num_kills = self.num_stories = self.num_lives = 0
        self.places: Counter[str] = Counter()
        self.differing: list[str] = []
        self.started = time.monotonic()
        folder = self._new_folder("undisturbed")
        self.whole = self._live(folder, Fault())
        self.expected = observed(folder)

    def tell(self, num_kills: int) -> None:
        """Kill one run so often, let it end, and compare."""
        self.num_stories += 1
        folder = self._new_folder(f"story{self.num_stories}")
        while num_kills:
            life = self._live(folder, self._any_fault())
            if not life.killed:
                break  # It came to its end before its time.
            num_kills -= 1
            self.num_kills += 1
            self.places.update(life.places or ["elsewhere"])
        self._live(folder, Fault())
        found = observed(folder)
        for name in sorted({*found, *self.expected}):
            if found.get(name) != self.expected.get(name):
                self.differing.append(f"{folder}: {name}")
        if not self.differing:
            shutil.rmtree(folder)
        seconds = time.monotonic() - self.started
        print(
            f"story {self.num_stories}: {self.num_kills} kills so far, {seconds:.0f} s",
            flush=True,
        )

    def summary(self) -> str:
        """Return the outcome as lines."""
        places = ", ".join(f"{n} in {place}" for place, n in self.places.most_common())
        seconds = time.monotonic() - self.started
        outcome = "All equal to the bit." if not self.differing else "DIFFERENT:"
        return "\n".join(
            [
                f"{self.num_kills} kills in {self.num_stories} stories of "
                f"{self.num_lives} lives, {seconds:.0f} s ({places}). {outcome}",
                *self.differing,
            ]
        )

    def _new_folder(self, name: str) -> Path:
        folder = self.top / name
        copied_preset(self.top, folder)
        return folder

    def _live(self, folder: Path, fault: Fault) -> Life:
        from dlrm.commands.main import main as run

        self.num_lives += 1
        life = live(lambda: run(list(COMMAND)), folder=folder, fault=fault)
        if life.code != 0 and not life.killed:
            sys.exit(f"A life of {folder} ended with {life.code}:\n{life.output}")
        return life

    def _any_fault(self) -> Fault:
        kind = random.choices(["time", "call", "step", "evaluation"], [4, 4, 1, 2])[0]
        if kind == "time":
            return Fault(seconds=random.uniform(0.0, self.whole.seconds))
        if kind == "call":
            call = random.randint(1, self.whole.num_calls)
            return Fault(call=call, mode=random.choice([KILL_BEFORE, KILL_AFTER]))
        return Fault(place=kind, call=random.randint(1, 8 if kind == "step" else 4))


if __name__ == "__main__":
    preloaded("tests.crash", sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
