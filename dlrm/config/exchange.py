"""Two folders that take each other's place in one step."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(first: Path, second: Path) -> None:
    """Give each folder the other's name; whoever looks finds one or the other whole.

    Raises:
        OSError: It cannot be done; both are as they were.
    """
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
