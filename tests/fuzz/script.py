"""A fuzzed input taken apart: bytes that choose settings, then files."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
NUM_OPTIONS = 10
FILE_SEPARATOR = b"\x1c\x1d"
PACKED_MAGIC = (b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x1f\x8b")
"""Beginnings of files that are refused unread, or read as gzip."""


class Script:
    """The first ``NUM_OPTIONS`` bytes are choices, the rest one file or several."""

    def __init__(self, data: bytes) -> None:
        self._options = iter(data[:NUM_OPTIONS])
        self.body = data[NUM_OPTIONS:]

    @property
    def files(self) -> list[bytes]:
        """The body cut at ``FILE_SEPARATOR``."""
        return self.body.split(FILE_SEPARATOR)

    def byte(self) -> int:
        """Return the next option, 0 where there is none."""
        return next(self._options, 0)

    def pick(self, choices: Sequence[T]) -> T:
        """Choose by the next option."""
        return choices[self.byte() % len(choices)]


def seed_input(*files: bytes, options: Sequence[int] = ()) -> bytes:
    """Return the input of which a ``Script`` makes ``options`` and ``files``."""
    return bytes(options).ljust(NUM_OPTIONS, b"\0") + FILE_SEPARATOR.join(files)


@dataclass(frozen=True, slots=True)
class Stored:
    """What stands on disk, and what it says."""

    data: bytes
    content: bytes
    may_refuse: bool = False
    """Whether the file is damaged: to refuse it is right, other rows are not."""


def packed(script: Script, content: bytes) -> Stored:
    """Store ``content``, mostly as it is; else as gzip, whole or damaged.

    A changed byte may stand where nobody looks, as in the time of a member's header.
    """
    way = script.byte()
    if way < 200:
        return Stored(content, content, may_refuse=content.startswith(PACKED_MAGIC))
    # Cut between two members, a file would be whole, though shorter.
    once = way % 2 or 225 <= way < 240
    pieces = (content,) if once else (content[:7], content[7:])
    data = b"".join(gzip.compress(piece, 1, mtime=0) for piece in pieces)
    if way < 225:
        return Stored(data, content)
    rng = random.Random(way)
    if way < 240:
        cut = rng.randint(3, max(3, len(data) - 1))
        return Stored(data[:cut], content, may_refuse=True)
    at = rng.randrange(2, len(data))
    data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    return Stored(data, content, may_refuse=True)


def write(path: Path, data: bytes) -> Path:
    """Write a file; ``path`` is returned."""
    path.write_bytes(data)
    return path
