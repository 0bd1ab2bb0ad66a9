"""Working folders that one process has to itself and that never outlive their work."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlrm.config.durable import write_whole, writing_to
from dlrm.config.errors import WorkerDiedError

_CONTENT_FILE = "content"


@contextmanager
def claimed(folder: Path, *, content: str | None = None) -> Iterator[bool]:
    """Hold ``folder`` until the end, when it is removed with all it holds.

    Another process that holds it is waited for. The lock goes with the process, so
    what a dead one left behind is free to be taken.

    The folder is empty, unless what was left there is of the same ``content``, text
    that says what the work is on: then it is as it was left, and the value is True. So
    that the next one can go on, the folder of work with ``content`` is left to it where
    the work was interrupted or a process that shared it died.

    Raises:
        OSError: The folder cannot be made.
    """
    descriptor = _lock(folder)
    is_left = False
    try:
        goes_on = content is not None and _content_of(folder) == content
        if not goes_on:
            for path in folder.iterdir():
                _remove(path)
            if content is not None:
                write_whole(folder / _CONTENT_FILE, content)
        yield goes_on
    except (KeyboardInterrupt, WorkerDiedError):
        is_left = content is not None
        raise
    finally:
        if not is_left:
            # First the name under which the rest could be gone on from.
            (folder / _CONTENT_FILE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned(
    parent: Path, pattern: str, *, but: Callable[[Path], bool] = lambda _: False
) -> list[Path]:
    """Remove the working folders in ``parent`` that no living process holds.

    Those that ``but`` says so of are left. Returns what was removed.
    """
    removed = []
    for folder in parent.glob(pattern):
        if but(folder):
            continue
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        except OSError:
            pass
        finally:
            os.close(descriptor)
    return removed


def can_be_gone_on_from(folder: Path) -> bool:
    """Say whether a working folder is one that some work could go on from."""
    return _content_of(folder) is not None


def _content_of(folder: Path) -> str | None:
    try:
        return (folder / _CONTENT_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _lock(folder: Path) -> int:
    while True:
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            _wait_for_lock(descriptor, folder)
            # While this process waited, the holder removed the folder it had.
            if _is_same(folder, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait_for_lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Waiting for the process that works in {folder}.", file=sys.stderr)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_same(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
