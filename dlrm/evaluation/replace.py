"""Replacing a folder by another in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from dlrm.config.durable import flush_to_disk, writing_to
from dlrm.config.errors import RunError
from dlrm.config.exchange import exchange
from dlrm.data.preparation.claim import claimed, remove_abandoned


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
        remove_abandoned(folder.parent, f".writing-{escape(folder.name)}-*")
        # What is left of it at the end is the old content, or what is half written.
        with claimed(aside):
            yield aside
            _flush(aside)
            if folder.exists():
                exchange(aside, folder)
            else:
                aside.rename(folder)
    except OSError as error:
        raise RunError(
            f"Results must be written to {folder}, but that failed: "
            f"{_told(folder, error)} What was there is unchanged."
        ) from error


def _told(folder: Path, error: OSError) -> str:
    try:
        with writing_to(folder):
            raise error
    except OSError as told:
        return str(told)


def _flush(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        flush_to_disk(path)
