"""Ctrl-C and SIGTERM end a run between two steps, after a checkpoint."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType


class RunInterruptedError(Exception):
    """The run was asked to stop, and left a checkpoint to go on from."""


class StopSignals:
    """Remembers the first SIGINT or SIGTERM; a second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        """Take over both signals, where this is the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # Not the main thread, as in a notebook's worker.
                break
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        # Not print, which refuses to start in the middle of another print.
        os.write(2, b"\nStopping after this step; once more stops at once.\n")
