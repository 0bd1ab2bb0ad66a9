"""Files of one shard that are written from start to end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dlrm.data.storage.layout import (
    RECORDS_FILE,
    START,
    STARTS_FILE,
    VALUES_FILE,
    WEIGHTS_FILE,
    RecordLayout,
)
from dlrm.data.storage.manifest import FileRecord
from dlrm.kernels.checksum import crc32


@dataclass(slots=True)
class CheckedFile:
    """A file whose CRC-32 is kept as it grows."""

    path: Path
    file: BinaryIO
    size: int = 0
    crc32: int = 0

    @classmethod
    def create(cls, path: Path) -> CheckedFile:
        """Begin the file; one that lies there goes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, path.open("wb"))

    def write(self, array: np.ndarray) -> None:
        """Append an array's bytes."""
        data = np.ascontiguousarray(array).view(np.uint8).reshape(-1).data
        self.file.write(data)
        self.crc32 = crc32(data, self.crc32)
        self.size += len(data)

    def finish(self) -> FileRecord:
        """Force the file to disk; return what was written."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return FileRecord(self.size, self.crc32)


@dataclass(slots=True)
class BagFiles:
    """The ids of a shard's bags, where each row's start, and their weights."""

    files: dict[str, CheckedFile]
    num_values: int = 0

    @classmethod
    def create(cls, shard: Path, layout: RecordLayout) -> BagFiles:
        """Begin the files below ``shard``; those that lie there go."""
        names = [name for name in layout.files if name != RECORDS_FILE]
        files = {name: CheckedFile.create(shard / name) for name in names}
        if STARTS_FILE in files:
            files[STARTS_FILE].write(np.zeros(1, dtype=START))
        return cls(files)

    def append(
        self, ends: np.ndarray, values: np.ndarray, weights: np.ndarray | None
    ) -> None:
        """Append the bags of R rows; ``ends`` are int64 [R + 1] as ``value_starts``."""
        if VALUES_FILE in self.files:
            self.files[VALUES_FILE].write(values)
            shifted = self.num_values + ends[1:] - ends[0]
            self.files[STARTS_FILE].write(shifted.astype(START))
            self.num_values += values.size
        if weights is not None:
            self.files[WEIGHTS_FILE].write(weights)

    def finish(self) -> dict[Path, FileRecord]:
        """Force the files to disk; return what was written."""
        return {checked.path: checked.finish() for checked in self.files.values()}

    def release(self) -> None:
        """Close the files, half written as they are."""
        for checked in self.files.values():
            checked.file.close()
