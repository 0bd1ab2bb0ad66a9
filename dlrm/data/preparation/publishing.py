"""A finished dataset takes its place, at once; what is there is whole or replaced."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from dlrm.config.durable import flush_to_disk, writing_to
from dlrm.config.errors import DatasetError
from dlrm.config.terminal_text import plain
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.manifest import PREPARE_ANEW


def is_whole(folder: Path, *, explain: bool = False) -> bool:
    """Say whether ``folder`` is a dataset; ``explain`` prints why it no longer is."""
    if not folder.exists():
        return False
    try:
        Dataset.open(folder, verify=False)
    except DatasetError as error:
        if explain:
            reason = str(error).removesuffix(PREPARE_ANEW).rstrip()
            print(f"Preparing anew: {plain(reason)}", file=sys.stderr)
        return False
    return True


def publish(made: Path, folder: Path) -> None:
    """Move a finished dataset to its place, at once; what is damaged there goes."""
    with writing_to(folder):
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
        flush_to_disk(folder.parent)
