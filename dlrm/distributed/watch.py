"""What the main thread says of its progress: cheap marks that a watchman reads."""

from __future__ import annotations

import time
from enum import Enum
from typing import NamedTuple


class Phase(Enum):
    """What a process is doing; each has its own limit in the ``watch`` section."""

    start = "start"
    prepare = "prepare"
    data = "data"
    step = "step"
    evaluate = "evaluate"
    metrics = "metrics"
    save = "save"
    end = "end"


class Mark(NamedTuple):
    """The last move of a process."""

    phase: Phase
    detail: str
    moves: int
    """Calls of ``enter``: processes in step have made as many."""
    at: float
    """When, by ``time.monotonic``."""


class Watch:
    """Takes the marks of one process's main thread. It locks and sends nothing."""

    __slots__ = ("mark",)

    def __init__(self) -> None:
        """Begin in phase ``start``."""
        self.mark = Mark(Phase.start, "", 0, time.monotonic())

    def enter(self, phase: Phase, detail: str = "") -> None:
        """Mark a move that all processes make, in the same order.

        Who of several waiting processes keeps the others waiting is read off the
        number of these calls. ``detail`` goes on from "in": ``step 57``.
        """
        self.mark = Mark(phase, detail, self.mark.moves + 1, time.monotonic())

    def touch(self, detail: str | None = None) -> None:
        """Mark progress within a phase that this process alone makes, such as a file.

        It begins the phase's limit anew and does not count as a move.
        """
        phase, before, moves, _ = self.mark
        said = before if detail is None else detail
        self.mark = Mark(phase, said, moves, time.monotonic())


NO_WATCH = Watch()
"""Of a process on its own: nobody reads it."""
