"""A command run to its end, with its seconds and the most memory it held."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from dlrm.config.errors import RunError

_SAMPLE_SECONDS = 0.05
_TAIL = 2000


@dataclass(frozen=True, slots=True)
class Watched:
    """What a command took."""

    seconds: float
    peak_bytes: int
    """Resident memory of it and all it has started, sampled: pages that processes
    share count once for each."""
    output: str


def run_watched(command: Sequence[str], *, name: str, folder: Path) -> Watched:
    """Run a command in a folder, sampling its memory.

    Raises:
        RunError: It failed; its last words are in the message.
    """
    log = folder / "watched.log"
    with log.open("w+") as file:
        started = time.perf_counter()
        process = subprocess.Popen(
            list(command), cwd=folder, stdout=file, stderr=subprocess.STDOUT
        )
        peak = 0
        try:
            while process.poll() is None:
                peak = max(peak, _resident(process.pid))
                time.sleep(_SAMPLE_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - started
        file.seek(0)
        output = file.read()
    if process.returncode != 0:
        raise RunError(
            f"{name} must end well to be measured, but it ended with code "
            f"{process.returncode}. Its last words: {output[-_TAIL:].strip()}"
        )
    return Watched(seconds, peak, output)


def _resident(pid: int) -> int:
    """Return the resident bytes of a process and its children; 0 once it is gone."""
    try:
        found = int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
    return found + sum(map(_resident, _children(pid)))


def _children(pid: int) -> list[int]:
    """List a process's children.

    Linux keeps them by thread. psutil goes through all processes of the machine for
    them, which would take a good part of a core from what is measured.
    """
    threads = Path(f"/proc/{pid}/task")
    try:
        lists = [file.read_text() for file in threads.glob("*/children")]
    except OSError:
        return []
    if lists or threads.exists():
        return [int(child) for text in lists for child in text.split()]
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
