"""One checkpoint at a time, written beside training."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Saver:
    """Runs what writes a checkpoint in a thread of its own, one after the other.

    An error there is raised in the thread that asks next: ``check`` every step, and
    ``wait`` at the end.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], object]) -> None:
        """Run ``write`` aside, once the one before it is done.

        Raises:
            Exception: That of the one before it.
        """
        self.wait()

        def work() -> None:
            try:
                write()
            except BaseException as error:
                self._error = error

        # A second Ctrl-C ends the process in mid-file: the folder has no name yet then.
        self._thread = threading.Thread(target=work, name="checkpoint", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the error of a write that has ended with one."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            Exception: That of the write.
        """
        self.settle()
        self.check()

    def settle(self) -> None:
        """Wait until nothing is being written, whatever came of it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
