"""A remote file's bytes, read while they are on their way into the cache."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

from dlrm.data.sources.remote import RemoteFile, cache_name
from dlrm.data.sources.remote_cache import RemoteCache
from dlrm.data.sources.remote_fetch import fetch, fetch_range
from dlrm.kernels.checksum import crc32

HEAD_BYTES = 1 << 20
"""Asked for alone, so that looking at a file's header does not bring the file."""
FAR_BYTES = 64 << 20
"""So far behind what has come, bytes are asked for alone, as Parquet's footer is."""


class RemoteContent:
    """A file's bytes in this process; they start to come when more than a head is read.

    Threads may share it.
    """

    def __init__(self, file: RemoteFile, cache: RemoteCache) -> None:
        """Ask for nothing yet."""
        self._file, self._cache, self._name = file, cache, cache_name(file)
        self._changed = threading.Condition()
        self._started = False
        self._head: bytes | None = None
        self._copy: BinaryIO | None = None
        """Open while it is written: of many files, few must be open at a time."""
        self._available = 0
        self._path: Path | None = None
        self._error: Exception | None = None

    def read_at(self, position: int, num_bytes: int) -> bytes:
        """Return up to so many bytes from a place on; none at the end alone.

        Raises:
            DataError: They cannot be read.
        """
        size, stop = self._file.size, position + num_bytes
        if size is not None:
            stop = min(stop, size)
            if stop <= position:
                return b""
        if not self._started and size is not None and stop <= HEAD_BYTES < size:
            head = self._head_alone()
            if head is not None:
                return head[position:stop]
        self._start()
        if size is not None and stop > self._available + FAR_BYTES:
            alone = fetch_range(self._file, position, stop)
            if alone is not None:
                return alone
        # Whoever has read all finds the copy in its place, though the process may end.
        self._wait_for(None if stop == size else stop)
        try:
            return self._read(position, stop)
        except FileNotFoundError:  # Another process has made room in the cache.
            self.whole()
            return self._read(position, stop)

    def _read(self, position: int, stop: int) -> bytes:
        with self._changed:
            count = min(stop, self._available) - position
            if self._path is None:
                assert self._copy is not None
                return os.pread(self._copy.fileno(), count, position)
        with self._path.open("rb") as file:
            return os.pread(file.fileno(), count, position)

    def num_bytes(self) -> int:
        """Return the size; where the server does not say, when all has come."""
        size = self._file.size
        return self.whole().stat().st_size if size is None else size

    def whole(self) -> Path:
        """Return the whole copy, once it is there.

        Raises:
            DataError: It cannot be read to its end.
        """
        with self._changed:
            if self._path is not None and not self._path.is_file():
                self._started, self._path = False, None
        self._start()
        self._wait_for(None)
        assert self._path is not None
        return self._path

    def _head_alone(self) -> bytes | None:
        with self._changed:
            if self._head is None and self._cache.find(self._name) is None:
                self._head = fetch_range(self._file, 0, HEAD_BYTES)
            return self._head

    def _start(self) -> None:
        with self._changed:
            if self._started and self._error is None:
                return
            self._started, self._error, self._available = True, None, 0
            found = self._cache.find(self._name)
            if found is not None:
                self._path = found
                self._available = found.stat().st_size
                return
            copy = self._copy = self._cache.begin(self._name)
            threading.Thread(target=self._bring, args=(copy,), daemon=True).start()

    def _bring(self, copy: BinaryIO) -> None:
        crc = 0
        try:
            for piece in fetch(self._file):
                copy.write(piece)
                copy.flush()
                crc = crc32(piece, crc)
                with self._changed:
                    self._available += len(piece)
                    self._changed.notify_all()
            path = self._cache.finish(self._name, copy, crc32=crc, url=self._file.url)
            with self._changed:
                self._path, self._copy = path, None
                copy.close()
                self._changed.notify_all()
        except Exception as error:
            Path(copy.name).unlink(missing_ok=True)
            with self._changed:
                self._error, self._copy = error, None
                copy.close()
                self._changed.notify_all()

    def _wait_for(self, stop: int | None) -> None:
        """Wait for the bytes before ``stop``, all of them where it is None."""
        with self._changed:
            while self._path is None and (stop is None or self._available < stop):
                if self._error is not None:
                    raise self._error
                self._changed.wait()


class _Reader(io.RawIOBase):
    """A place in a remote file's bytes."""

    def __init__(self, content: RemoteContent) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = 0
        if whence == io.SEEK_CUR:
            base = self._position
        elif whence == io.SEEK_END:
            base = self._content.num_bytes()
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._content.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def reader_of(content: RemoteContent) -> io.BufferedReader:
    """Open a remote file's bytes for reading."""
    return io.BufferedReader(_Reader(content), HEAD_BYTES)


_CONTENTS: dict[tuple[RemoteFile, RemoteCache], RemoteContent] = {}
_CONTENTS_LOCK = threading.Lock()


def content_of(file: RemoteFile) -> RemoteContent:
    """Return a file's one content in this process: nobody brings it a second time."""
    place = file, RemoteCache.of_environment()
    with _CONTENTS_LOCK:
        if place not in _CONTENTS:
            _CONTENTS[place] = RemoteContent(*place)
        return _CONTENTS[place]
