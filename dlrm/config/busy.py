"""Which file each thread is at, for whoever asks why a process stands still."""

from __future__ import annotations

import threading
from pathlib import Path

_files: dict[int, tuple[str, Path | str]] = {}
"""By thread: what it does with which file."""


class _Busy:
    """Says what a thread is at for the body of a ``with``; plain, as batches use it."""

    __slots__ = ("_before", "_now", "_thread")

    def __init__(self, verb: str, path: Path | str) -> None:
        self._now = (verb, path)

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._before = _files.get(self._thread)
        _files[self._thread] = self._now

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            _files.pop(self._thread, None)
        else:
            _files[self._thread] = self._before


def reading(path: Path | str) -> _Busy:
    """Say that this thread reads ``path`` for the body of a ``with``."""
    return _Busy("reading", path)


def writing(path: Path | str) -> _Busy:
    """Say that this thread writes ``path`` for the body of a ``with``."""
    return _Busy("writing", path)


def file_of(thread: int) -> str:
    """Return ``reading FILE`` or ``writing FILE`` of a thread; empty where neither."""
    verb, path = _files.get(thread, ("", ""))
    return f"{verb} {path}" if verb else ""
