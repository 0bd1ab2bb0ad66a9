"""Signals that a thread can wait for while the main thread is inside a library."""

from __future__ import annotations

import os
import select
import signal
import time

_STOPS = (signal.SIGINT, signal.SIGTERM)


class SignalPipe:
    """Learns of SIGINT and SIGTERM at once, where Python handles them.

    Python runs a signal's handler in the main thread, when that is back from the
    library; but the number of the signal is written to a file as it comes. A signal
    without a handler of Python's ends the process and is not learnt of.
    """

    def __init__(self) -> None:
        """Open the pipe; outside the main thread no signal will come through it."""
        self.received: tuple[int, float] | None = None
        """The first stop's number and when it came, by ``time.monotonic``."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        try:
            self._before: int | None = signal.set_wakeup_fd(
                self._write, warn_on_full_buffer=False
            )
        except ValueError:
            self._before = None

    def wait(self, seconds: float) -> None:
        """Wait for a signal, or ``seconds``."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if not poll.poll(1000 * seconds):
            return
        numbers = os.read(self._read, 512)
        if self._before not in (None, -1):
            os.write(self._before, numbers)
        stops = [number for number in numbers if number in _STOPS]
        if stops and self.received is None:
            self.received = (stops[0], time.monotonic())

    def wake(self) -> None:
        """End a ``wait``."""
        os.write(self._write, b"\0")

    def close(self) -> None:
        """Give the signals back, and close the pipe: nobody may wait for it still."""
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
        os.close(self._read)
        os.close(self._write)
