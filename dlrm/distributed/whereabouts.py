"""Where in the source a thread of this process stands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import FrameType

from dlrm.config.busy import file_of

_ROOT = str(Path(__file__).parents[2]) + "/"
_PACKAGE = str(Path(__file__).parents[1]) + "/"
_BACKGROUND = _PACKAGE + "data/background.py"
_COLLECTIVES = _PACKAGE + "distributed/job.py"
"""Where everybody waits: who called it says more."""

_WAITING = (
    "/torch/distributed/",
    "/torchrec/distributed/comm_ops.py",
    "/torchrec/distributed/types.py",
)
_PERHAPS_WAITING = ("/torch/autograd/graph.py", "/torch/cuda/")


class Waits(IntEnum):
    """Whether a thread waits for other processes, by where it stands."""

    no = 0
    perhaps = 1
    """In a backward pass, which holds collectives, or waiting for the GPU."""
    surely = 2


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a thread stands."""

    place: str
    """``dlrm/trainer.py:88``; empty for a thread that has ended."""
    file: str
    """``reading FILE`` or ``writing FILE``, or empty."""
    waits: Waits


def whereabouts(thread: int) -> Whereabouts:
    """Say where the thread with this identifier stands now.

    One that waits for rows made in the background stands where they are made.
    """
    frames = sys._current_frames()
    found = frames.get(thread)
    if found is None:
        return Whereabouts("", "", Waits.no)
    waits = _waits(found.f_code.co_filename)
    ours = _innermost(found)
    if ours.f_code.co_filename == _BACKGROUND:
        for other, frame in frames.items():
            if other != thread and _in_background(frame):
                place = f"{_place(ours)}, for {_place(_innermost(frame))}"
                return Whereabouts(place, file_of(other), Waits.no)
    return Whereabouts(_place(ours), file_of(thread), waits)


def _innermost(frame: FrameType) -> FrameType:
    """Return our own innermost frame, or the innermost where none is ours."""
    ours = [each for each in _callers(frame) if _is_ours(each)]
    telling = [each for each in ours if each.f_code.co_filename != _COLLECTIVES]
    return (telling or ours or [frame])[0]


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE)


def _in_background(frame: FrameType) -> bool:
    return any(each.f_code.co_filename == _BACKGROUND for each in _callers(frame))


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.removeprefix(_ROOT)}:{frame.f_lineno}"


def _waits(filename: str) -> Waits:
    if any(part in filename for part in _WAITING):
        return Waits.surely
    if any(part in filename for part in _PERHAPS_WAITING):
        return Waits.perhaps
    return Waits.no
