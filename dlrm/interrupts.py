"""Ctrl-C, SIGTERM and SIGHUP end a run between two steps, after a checkpoint."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from types import FrameType, TracebackType

from dlrm.config.errors import JobStoppedError


class RunInterruptedError(JobStoppedError):
    """The run was asked to stop, and left a checkpoint to go on from."""


_ONE_REQUEST_SECONDS = 1.0
"""A batch system tells all processes of a job, and torchrun tells its ranks again."""


class StopSignals:
    """Remembers the first SIGINT, SIGTERM or SIGHUP.

    A later one raises KeyboardInterrupt.

    SIGHUP comes when a terminal is closed, or a connection to it breaks; under nohup
    it goes on being ignored.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self.received: signal.Signals | None = None
        self._silent = silent
        self._came = 0.0
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        """Take over the signals, where this is the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_IGN and number is signal.SIGHUP:
                continue
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
        now = time.monotonic()
        if self.received is not None:
            if now - self._came > _ONE_REQUEST_SECONDS:
                raise KeyboardInterrupt
            return
        self.received, self._came = signal.Signals(number), now
        if not self._silent:
            # Not print, which refuses to start in the middle of another print.
            with suppress(OSError):  # The terminal may be what has gone.
                os.write(2, b"\nStopping after this step; once more stops at once.\n")
