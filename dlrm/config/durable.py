"""What has been written must survive a power cut before anything says it is there."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlrm.config.byte_size import shown_bytes
from dlrm.config.errors import WriteError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WRAPPED = re.compile(r"(?:os error |\[Errno )(\d+)")
"""The system's errors as safetensors and ``shutil.copytree`` tell of them."""


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk.

    Raises:
        WriteError: The disk did not take it.
    """
    with writing_to(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is there whole or, after any crash, as it was before.

    Raises:
        WriteError: The disk did not take it; what was there is unchanged.
    """
    aside = path.with_name(f".{path.name}")
    with writing_to(path, needed=len(text.encode())):
        try:
            aside.write_text(text, encoding="utf-8")
            flush_to_disk(aside)
            aside.replace(path)
        except BaseException:
            _forget(aside)
            raise


@contextmanager
def writing_to(path: Path, *, needed: int | None = None) -> Iterator[None]:
    """Let the errors of writing name ``path``, and the bytes that it needs in all.

    Raises:
        WriteError: The system refused something in the block.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = _error_number(error)
        if number is None:
            raise
        raise _write_error(path, number, needed) from error


def _error_number(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _WRAPPED.search(str(error))
    return int(found[1]) if found else None


def _write_error(path: Path, number: int, needed: int | None) -> WriteError:
    reason = os.strerror(number)
    if number in _FULL:
        wanted = "free space" if needed is None else f"{shown_bytes(needed)} free"
        return WriteError(
            f"Writing {path} needs {wanted}, but the disk is full"
            f"{room_at(path)} ({reason}). Free some, or write elsewhere with "
            f"output=... and data.prepared=... on another disk.",
            number,
        )
    return WriteError(
        f"{path} must be writable, but the system refuses it: {reason}. Check the disk "
        f"and the permissions of its folder, or write elsewhere with output=... and "
        f"data.prepared=...",
        number,
    )


def room_at(path: Path) -> str:
    """Say how much is left there, as the end of a sentence; "" where that fails."""
    try:
        place = next(p for p in (path, *path.parents) if p.exists())
        return f": {shown_bytes(shutil.disk_usage(place).free)} are left"
    except (OSError, StopIteration):
        return ""


def _forget(path: Path) -> None:
    """Delete what was half written; a disk that refuses even that is told of once."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
