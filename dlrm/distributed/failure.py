"""How a rank ended, told to the launcher that started it and to its next life."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dlrm.config.environment import read_environment


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFailure:
    """Why a rank ended before its work was done; torchrun prints ``message``."""

    message: str
    code: int
    """Its exit code."""
    of_other_rank: bool = False
    """Another rank failed, and says why itself."""
    timestamp: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""


def tell_launcher(failure: RankFailure) -> None:
    """Write a failure where torch's launcher looks for it; nothing without one."""
    file = read_environment().error_file
    if file is None:
        return
    try:
        file.write_text(json.dumps(asdict(failure)), encoding="utf-8")
    except OSError:
        return  # A full disk, say: the launcher has the exit code.


def failure_before_restart(file: Path | None = None) -> RankFailure | None:
    """Return the failure that ended the job's last life, where a rank gave its reason.

    What a user has to mend, or wanted to stop, fails again however often it is
    started; what died without a word may fare better. ``file`` is where this life's
    failure would be told.
    """
    file = file or read_environment().error_file
    if file is None:
        return None
    # torch's launcher keeps them in attempt_<number>/<local rank>/error.json.
    attempt = file.parent.parent
    name, _, number = attempt.name.rpartition("_")
    if not number.isdigit() or number == "0":
        return None
    last = attempt.with_name(f"{name}_{int(number) - 1}")
    found = [read_failure(path) for path in sorted(last.glob(f"*/{file.name}"))]
    reasons = [each for each in found if each and not each.of_other_rank]
    return min(reasons, key=lambda each: each.timestamp, default=None)


def read_failure(file: Path) -> RankFailure | None:
    """Return what a rank wrote by ``tell_launcher``; None where it is nothing such."""
    try:
        return RankFailure(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
