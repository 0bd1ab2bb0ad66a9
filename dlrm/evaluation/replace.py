"""Replacing a folder by another in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlrm.config.durable import flush_to_disk
from dlrm.config.errors import RunError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a new empty folder that takes ``folder``'s place when the block ends.

    Whoever looks at ``folder``, at any moment and after any crash, sees the old content
    whole or the new content whole. When the block raises, the old content stays.

    Raises:
        RunError: The files cannot be written, as on a full disk.
    """
    aside = folder.with_name(f".writing-{folder.name}-{os.getpid()}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        _flush(aside)
        if folder.exists():
            _exchange(aside, folder)
        else:
            aside.rename(folder)
    except OSError as error:
        raise RunError(
            f"Results must be written to {folder}, but that failed: "
            f"{error.strerror or error}. Make room or mend the folder's permissions; "
            f"what was there is unchanged."
        ) from error
    finally:
        # After the exchange this is the old content, after a failure the half-written.
        shutil.rmtree(aside, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        flush_to_disk(path)


def _exchange(first: Path, second: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(first), os.fsencode(second)
    rename = getattr(library, "renameat2", None)
    if rename is not None:
        answer = rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE)
        if answer == 0:
            return
    # Network file systems know no exchange. Between these two renames the old content
    # stands under the third name only, still whole.
    old = second.with_name(f".old-{second.name}-{os.getpid()}")
    second.rename(old)
    try:
        first.rename(second)
    except OSError:
        old.rename(second)
        raise
    old.rename(first)
