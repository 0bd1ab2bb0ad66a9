"""Arrays as ``.npy`` files, whose errors say what the disk said."""

from __future__ import annotations

from pathlib import Path
from typing import IO, cast

import numpy as np

from dlrm.config.durable import writing_to


class _Writer:
    """No file to numpy, which writes to files by a way that forgets why it failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write


def save_npy(path: Path, array: np.ndarray) -> None:
    """Write an array of numbers, as ``np.save`` does.

    Raises:
        WriteError: The disk refuses the bytes.
    """
    with writing_to(path), path.open("wb") as file:
        np.save(cast(IO[bytes], _Writer(file)), array, allow_pickle=False)
