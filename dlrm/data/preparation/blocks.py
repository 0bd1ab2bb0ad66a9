"""Finished pieces of work as files: each is whole, with what it gave, or absent.

A file holds named sections one after the other, then a JSON footer that says where they
lie, their CRC-32 and the work's result, then a trailer that says where the footer is.
It appears by a rename, so a name alone says much; after a crash of the machine, which
may keep names and lose contents, the checksums say the rest. One whose sections nobody
needs any longer is spent: they go, and that it was done, with what it gave, stays.
"""

from __future__ import annotations

import functools
import json
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote, unquote

import numpy as np

from dlrm.config.durable import writing_to
from dlrm.kernels.checksum import crc32, crc32_of_part

Bytes = bytes | memoryview | np.ndarray
_TRAILER = struct.Struct("<QI4s")
_MAGIC = b"dlrm"
_BUFFER_BYTES = 1 << 15
"""Whatever is longer is written from where it lies."""
_SUFFIX = ".block"
_OPEN_BLOCKS = 256
"""Footers kept in memory: column after column is read of the same files."""


class SpentError(Exception):
    """A piece of work is needed that was done and used up: it must be done again."""


@dataclass(frozen=True, slots=True)
class FinishedBlock:
    """The file of a finished piece of work, read section by section."""

    path: Path
    sections: dict[str, list[int]]
    """Start and size in bytes."""
    result: dict[str, Any]
    crc32: int
    spent: bool = False
    """Its sections are gone."""

    def names(self) -> list[str]:
        """List the sections.

        Raises:
            SpentError: They are gone.
        """
        self._check_unspent()
        return list(self.sections)

    def size(self, section: str) -> int:
        """Return a section's bytes."""
        return self._place(section)[1]

    def read(self, section: str, start: int = 0, size: int | None = None) -> bytes:
        """Return a section, or ``size`` bytes of it from ``start``.

        Read, not mapped: pages of a map would count as memory of this process.

        Raises:
            SpentError: The sections are gone.
        """
        first, whole = self._place(section)
        wanted = whole - start if size is None else size
        with self.path.open("rb", buffering=0) as file:
            file.seek(first + start)
            data = file.read(wanted)
        if len(data) != wanted:
            raise OSError(f"{self.path} ends within section {section!r}")
        return data

    def numbers(
        self, section: str, dtype: Any, start: int = 0, count: int | None = None
    ) -> np.ndarray:
        """Return a section's numbers, or ``count`` of them from number ``start``."""
        width = np.dtype(dtype).itemsize
        size = None if count is None else count * width
        return np.frombuffer(self.read(section, start * width, size), dtype)

    def _place(self, section: str) -> list[int]:
        self._check_unspent()
        return self.sections[section]

    def _check_unspent(self) -> None:
        if self.spent:
            raise SpentError(str(self.path))


@dataclass(frozen=True, slots=True)
class BlockStore:
    """A folder of finished pieces of work by name."""

    folder: Path

    def open(self, name: str) -> FinishedBlock:
        """Open what is known to be finished; only its footer is checked.

        Raises:
            OSError: It is not there, or not whole.
        """
        path = self._path(name)
        stat = path.stat()
        return _opened(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))

    def find(self, name: str) -> FinishedBlock | None:
        """Return what an earlier preparation finished, checked; damaged ones go."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            block = self.open(name)
            size = sum(size for _, size in block.sections.values())
            if crc32_of_part(path, 0, size) == block.crc32:
                return block
        except OSError:
            pass
        path.unlink(missing_ok=True)
        return None

    def remove(self, name: str) -> None:
        """Forget a piece of work; none of that name is well too."""
        self._path(name).unlink(missing_ok=True)

    def spend(self, name: str) -> None:
        """Give back the room of what nobody needs any longer; its result stays.

        Raises:
            WriteError: The disk refuses the bytes.
        """
        block = self.open(name)
        if not block.spent:
            with self.writer(name) as out:
                out.finish(block.result, spent=True)

    def remove_spent(self) -> None:
        """Forget all that is spent."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            block = self.find(unquote(path.name.removesuffix(_SUFFIX)))
            if block is not None and block.spent:
                path.unlink()

    def count(self, prefix: str) -> int:
        """Count the pieces whose names begin so."""
        return sum(1 for _ in self.folder.glob(f"{quote(prefix, safe='')}*{_SUFFIX}"))

    def writer(self, name: str) -> BlockWriter:
        """Begin a piece of work's file."""
        return BlockWriter(self._path(name))

    def _path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}{_SUFFIX}"


@dataclass(slots=True)
class BlockWriter:
    """Writes sections one after the other; ``finish`` makes the file appear."""

    path: Path
    _sections: dict[str, list[int]] = field(default_factory=dict)
    _size: int = 0
    _crc32: int = 0
    _file: BinaryIO | None = None

    def append(self, section: str, data: Bytes) -> None:
        """Add to the last section, or begin a new one.

        Raises:
            WriteError: The disk refuses the bytes.
        """
        if isinstance(data, np.ndarray):
            data = np.ascontiguousarray(data).view(np.uint8).reshape(-1).data
        view = memoryview(data)
        if section not in self._sections:
            self._sections[section] = [self._size, 0]
        entry = self._sections[section]
        assert sum(entry) == self._size, "sections follow one another"
        assert self._file is not None
        with writing_to(self.path):
            self._file.write(view)
        self._crc32 = crc32(view, self._crc32)
        self._size += view.nbytes
        entry[1] += view.nbytes

    def finish(self, result: dict[str, Any], *, spent: bool = False) -> None:
        """Write the footer, and give the file its name.

        Raises:
            WriteError: The disk refuses the bytes.
        """
        footer = {
            "sections": self._sections,
            "result": result,
            "crc32": self._crc32,
            "spent": spent,
        }
        text = json.dumps(footer).encode()
        assert self._file is not None
        with writing_to(self.path):
            self._file.write(text)
            self._file.write(_TRAILER.pack(len(text), zlib.crc32(text), _MAGIC))
            self._file.close()
            self._aside.replace(self.path)

    def __enter__(self) -> BlockWriter:
        """Open the file, under a name of this process."""
        with writing_to(self.path):
            self._file = self._aside.open("wb", buffering=_BUFFER_BYTES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; what was not finished goes."""
        if self._file is not None and not self._file.closed:
            # A full disk refuses this too; the error that says so is on its way.
            with suppress(OSError):
                self._file.close()
        if kind is not None:
            self._aside.unlink(missing_ok=True)

    @property
    def _aside(self) -> Path:
        return self.path.with_name(f"{self.path.name}.{os.getpid()}.half")


class Task(Protocol):
    """A piece of work that any process can do, and that is done once."""

    @property
    def store(self) -> BlockStore:
        """Where its file goes."""
        ...

    @property
    def name(self) -> str:
        """What its file is called."""
        ...

    def make(self, out: BlockWriter) -> dict[str, Any]:
        """Do the work and return its result, JSON data."""
        ...

    def still_holds(self, result: dict[str, Any]) -> bool:
        """Say whether a result of an earlier preparation can be taken over."""
        ...


def perform(task: Task) -> dict[str, Any]:
    """Return a task's result, from its file where it is finished already."""
    found = task.store.find(task.name)
    if found is not None and task.still_holds(found.result):
        return found.result
    with task.store.writer(task.name) as out:
        result = task.make(out)
        out.finish(result)
    return result


@functools.lru_cache(maxsize=_OPEN_BLOCKS)
def _opened(path: Path, version: tuple[int, ...]) -> FinishedBlock:
    """Read a file's footer."""
    del version
    with path.open("rb", buffering=0) as file:
        end = file.seek(0, os.SEEK_END) - _TRAILER.size
        file.seek(max(end, 0))
        trailer = file.read(_TRAILER.size)
        if len(trailer) != _TRAILER.size:
            raise OSError(f"{path} is too short")
        size, crc32, magic = _TRAILER.unpack(trailer)
        if magic != _MAGIC or size > end:
            raise OSError(f"{path} has no trailer")
        file.seek(end - size)
        text = file.read(size)
    if zlib.crc32(text) != crc32:
        raise OSError(f"{path} has a damaged footer")
    return FinishedBlock(path, **json.loads(text))


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that is gone had half written."""
    for path in folder.glob("*.half"):
        path.unlink(missing_ok=True)
