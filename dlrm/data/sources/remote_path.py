"""Remote files as paths, for all who open local ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from dlrm.data.sources.remote import RemoteFile
from dlrm.data.sources.remote_content import RemoteContent, content_of, reader_of


class RemotePath(type(Path())):  # type: ignore[misc]
    """The path of a remote file: it shows its URL, and opens as a local one does.

    Whoever needs a name on this machine's disk waits for the whole copy.
    """

    def __new__(cls, file: RemoteFile) -> RemotePath:
        """Make a path of the URL."""
        path: RemotePath = super().__new__(cls, file.url)
        return path

    def __init__(self, file: RemoteFile) -> None:
        """Read nothing yet."""
        if sys.version_info >= (3, 12):
            super().__init__(file.url)
        self.file = file

    def __str__(self) -> str:
        """Return the URL."""
        file = getattr(self, "file", None)
        return super().__str__() if file is None else str(file.url)

    def __fspath__(self) -> str:
        """Return the path of the whole copy."""
        return str(self._content().whole())

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as what the server said."""
        return RemotePath, (self.file,)

    def with_segments(self, *segments: str) -> Path:
        """Let what is derived from a URL be a plain path: a parent is no file."""
        return Path(*segments)

    def open(self, mode: str = "rb", *_: Any, **__: Any) -> Any:
        """Open the file to read its bytes, which may still be on their way."""
        assert mode == "rb"
        return reader_of(self._content())

    def stat(self, **_: Any) -> os.stat_result:
        """Return the size alone."""
        size = self._content().num_bytes()
        return os.stat_result((0o100444, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def exists(self, **_: Any) -> bool:
        """Return True: it was there when it was found."""
        return True

    is_file = exists

    def is_dir(self, **_: Any) -> bool:
        """Return False."""
        return False

    def expanduser(self) -> RemotePath:
        """Return the path as it is."""
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        """Return the path as it is."""
        return self

    def _content(self) -> RemoteContent:
        return content_of(self.file)
