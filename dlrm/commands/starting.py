"""What a training run waits for at its start: large imports, and the data beside them.

Nothing in here imports torch before it is asked to.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.config.data import DataConfig
from dlrm.distributed.context import ProcessContext

if TYPE_CHECKING:
    from dlrm.data.sources.chunk import Source
    from dlrm.data.storage.dataset import Dataset


_is_program = False


def become_program() -> None:
    """Note that this process runs one command and ends."""
    global _is_program
    _is_program = True


def is_program() -> bool:
    """Say whether this process is one command, and nobody else's code runs in it."""
    return _is_program


@contextmanager
def imports_without_pauses() -> Iterator[None]:
    """Let modules be imported without searches for garbage among what they define.

    Python would search again and again while torch makes its million objects, a sixth
    of the time that takes, and find nothing.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def import_torch() -> None:
    """Import torch and torchrec, and leave them out of all later garbage searches."""
    if "torchrec" in sys.modules:
        return
    with imports_without_pauses():
        import torchrec  # noqa: F401

        gc.freeze()


class OpenedAhead:
    """A prepared dataset, opened and checked on a thread while torch is imported.

    Whatever goes wrong here goes wrong again, and is told, where the dataset is needed.
    """

    def __init__(self, data: DataConfig, source: Source | None) -> None:
        """Begin with the dataset of ``source``, if this process is to check it.

        With None nothing is opened: rows from memory must not be hashed twice.
        """
        # Before the thread: two threads at one import could wait for each other.
        import dlrm.data.preparation.prepare
        import dlrm.data.storage.dataset  # noqa: F401

        self._found: tuple[Path, Dataset] | None = None
        self._thread: threading.Thread | None = None
        if source is not None and ProcessContext.from_environment().rank == 0:
            self._thread = threading.Thread(
                target=self._open, args=(data, source), daemon=True
            )
            self._thread.start()

    def take(self, folder: Path) -> Dataset | None:
        """Return the dataset, checked whole, if it is the one in ``folder``."""
        if self._thread is not None:
            self._thread.join()
        if self._found is None or self._found[0] != folder:
            return None
        return self._found[1]

    def _open(self, data: DataConfig, source: Source) -> None:
        from dlrm.data.preparation.prepare import existing_dataset
        from dlrm.data.storage.dataset import Dataset

        try:
            folder = existing_dataset(data, source)
            if folder is not None:
                self._found = folder, Dataset.open(folder)
        except Exception:
            self._found = None
