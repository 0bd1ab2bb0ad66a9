"""A folder of copies of remote files: whole, checked, and bounded in size."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dlrm.config.checks import require
from dlrm.config.environment import read_environment
from dlrm.kernels.checksum import crc32_of_file


@dataclass(frozen=True, slots=True)
class RemoteCache:
    """Copies named by a hash of URL, size and version; the oldest used leave first.

    A copy is written aside and renamed once it is whole, with its CRC-32 beside it, so
    that what a killed process leaves is never taken for one.
    """

    folder: Path
    limit_bytes: int

    @classmethod
    def of_environment(cls) -> RemoteCache:
        """Return the cache that ``DLRM_CACHE`` and ``DLRM_CACHE_GB`` describe.

        Raises:
            ConfigError: ``DLRM_CACHE_GB`` is no size.
        """
        environment = read_environment()
        text, gigabytes = environment.cache_gb, -1.0
        with contextlib.suppress(ValueError):
            gigabytes = float(text)
        sound = 0 <= gigabytes < math.inf
        require(sound, "DLRM_CACHE_GB", "a number of gigabytes", text)
        folder = Path(environment.cache).expanduser() / "remote"
        return cls(folder, int(gigabytes * 1e9))

    def find(self, name: str) -> Path | None:
        """Return a copy whose checksum is right, now used last; remove any other."""
        path = self.path_of(name)
        try:
            record = json.loads(_record_of(path).read_text(encoding="utf-8"))
            sound = path.stat().st_size == record["size"]
            if sound and crc32_of_file(path) == record["crc32"]:
                os.utime(path)
                return path
        except (OSError, ValueError, KeyError, TypeError):
            pass
        _remove(path)
        return None

    def begin(self, name: str) -> BinaryIO:
        """Open the file aside that a copy is written to, and hold it.

        Raises:
            OSError: The folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".*.part"):
            _remove_if_abandoned(left)
        path = self.path_of(name)
        aside = path.with_name(f".{path.stem}.{os.getpid()}.part")
        file = aside.open("w+b")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file

    def finish(self, name: str, file: BinaryIO, *, crc32: int, url: str) -> Path:
        """Give a whole copy its name, and let others go to stay within the limit."""
        file.flush()
        os.fsync(file.fileno())
        path = self.path_of(name)
        record = {"url": url, "size": file.tell(), "crc32": crc32}
        aside = Path(file.name).with_suffix(".json")
        aside.write_text(json.dumps(record) + "\n", encoding="utf-8")
        aside.replace(_record_of(path))
        Path(file.name).replace(path)
        self._trim(keep=path)
        return path

    def path_of(self, name: str) -> Path:
        """Return where the copy of this name lies, once it is there."""
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.data"

    def _trim(self, *, keep: Path) -> None:
        """Remove copies, the least used first; readers keep what they have open."""
        copies = []
        for path in self.folder.glob("*.data"):
            with contextlib.suppress(OSError):  # Another process removes some, too.
                found = path.stat()
                copies.append((found.st_mtime_ns, found.st_size, path))
        total = sum(size for _, size, _ in copies)
        for _, size, path in sorted(copies):
            if total <= self.limit_bytes:
                return
            if path != keep:
                _remove(path)
                total -= size


def _record_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _remove(path: Path) -> None:
    for file in (path, _record_of(path)):
        file.unlink(missing_ok=True)


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
