"""Contestants as processes of their own, driven one at a time through pipes.

Nothing of one leaks into another: no allocator settings, threads or buffers. Whoever is
not in turn is blocked on a read. What it costs all the same is measured.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from dlrm.bench.pairs import interleave
from dlrm.config.errors import RunError

_DONE = re.compile(r"done (\d+)\s*$")
_SECONDS_TO_END = 10.0
_TAIL = 2000
"""Letters of what a contestant wrote to stderr that an error repeats."""


class Contestant:
    """A process that speaks the protocol of ``dlrm/bench/protocol.py``."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        """Start the process; its first turn waits until it is ready.

        Raises:
            RunError: There is no such program.
        """
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                bufsize=1,
                start_new_session=True,
            )
        except OSError as error:
            raise RunError(
                f"{name} must be a command that can be started, but '{command[0]}' "
                f"cannot: {error.strerror}. Check its path."
            ) from error
        self._shadow = psutil.Process(self._process.pid)

    def turn(self) -> int:
        """Let it take its turn; return its number of examples.

        Raises:
            RunError: It ended, or took no example.
        """
        self._say("go")
        for line in self._lines():
            found = _DONE.match(line)
            if found is None:
                continue
            if int(found[1]) < 1:
                raise RunError(
                    f"{self.name} must take at least one example a turn, but it "
                    f"answered '{line.strip()}'."
                )
            return int(found[1])
        raise self._ended()

    def ask(self, question: str, argument: Any = None) -> Any:
        """Return the answer to a question; only our own contestants are asked any."""
        self._say(f"ask {question} {json.dumps(argument)}")
        for line in self._lines():
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise self._ended()

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used so far."""
        try:
            times = self._shadow.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def close(self) -> None:
        """End the process and all that it has started."""
        assert self._process.stdin is not None
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.stdin.close()
            self._process.wait(_SECONDS_TO_END)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{text}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        return iter(self._process.stdout.readline, "")

    def _ended(self) -> RunError:
        code = self._process.wait()
        self._errors.seek(0)
        written = self._errors.read().decode(errors="replace").strip()
        return RunError(
            f"{self.name} must answer every line 'go' with a line 'done N' until its "
            f"stdin ends, but it ended with code {code}. Its last words: "
            f"{written[-_TAIL:] or 'none'}"
        )


@contextmanager
def started(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Contestant]]:
    """Start contestants one after another, each through its first turn.

    That turn, in which it loads and warms up, is disturbed by no other's.
    """
    with ExitStack() as stack:
        contestants = {}
        for name, command in commands.items():
            contestant = Contestant(name, command)
            stack.callback(contestant.close)
            contestant.turn()
            contestants[name] = contestant
        yield contestants


@dataclass(frozen=True, slots=True)
class Rounds:
    """What came of interleaved rounds, [rounds] a contestant."""

    seconds: dict[str, np.ndarray]
    examples: dict[str, np.ndarray]
    idle_share: float
    """Processor seconds of those not in turn over seconds: 0 where waiting is free."""

    def seconds_an_example(self, name: str) -> np.ndarray:
        """Return each round's seconds over its examples."""
        per_example: np.ndarray = self.seconds[name] / self.examples[name]
        return per_example


def run_rounds(contestants: Mapping[str, Contestant], *, num_rounds: int) -> Rounds:
    """Drive all contestants through interleaved rounds, one more than is counted."""
    taken: dict[str, list[int]] = {name: [] for name in contestants}
    idle: list[float] = []

    def turn(name: str) -> None:
        others = [each for key, each in contestants.items() if key != name]
        before = sum(other.cpu_seconds() for other in others)
        taken[name].append(contestants[name].turn())
        idle.append(sum(other.cpu_seconds() for other in others) - before)

    seconds = interleave(
        {name: lambda name=name: turn(name) for name in contestants},  # type: ignore[misc]
        num_rounds=num_rounds,
    )
    counted = idle[len(contestants) :]
    total = sum(float(values.sum()) for values in seconds.values())
    return Rounds(
        seconds=seconds,
        examples={name: np.array(values[1:]) for name, values in taken.items()},
        idle_share=sum(counted) / total,
    )
