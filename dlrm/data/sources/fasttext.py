"""fastText's own files: a row a line, its labels among its words."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import BadRows, DataConfig, FasttextSource, Split
from dlrm.config.errors import DataError
from dlrm.data.columns.words import SPACES
from dlrm.data.sources.blocks import MAX_RECORD_BYTES
from dlrm.data.sources.chunk import MEND_OR_SKIP, BadRow, Chunk
from dlrm.data.sources.files import InputFile, file_identity, resolve_files, total_bytes
from dlrm.data.sources.table import files_by_split

TEXT_COLUMN = "text"
BLOCK_BYTES = 8 << 20
_WORD = re.compile(f"[^{re.escape(SPACES)}]+")


class FasttextFiles:
    """Lines cut into words as fastText does; the rest of its dictionary comes later.

    Labels may stand anywhere in a line. Lines without any word are no rows, unless rows
    are only to be scored: then there is one a line.
    """

    def __init__(self, data: DataConfig, *, with_labels: bool) -> None:
        """Find the files.

        Raises:
            ConfigError: ``data.files`` is at odds with itself.
            DataError: A file is missing.
        """
        self._data = data
        self._with_labels = with_labels
        self._splits: dict[Path, str] = {}
        if data.split is Split.files:
            self._splits = files_by_split(data)
            self._files = list(self._splits)
        else:
            self._files = resolve_files(data.source)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, file after file.

        Raises:
            DataError: A file cannot be read, or a line is not UTF-8.
        """
        total, done = total_bytes(self._files), 0
        for path in self._files:
            with InputFile(path) as file:
                first_line = 1
                for lines in _blocks(file, path):
                    share = (done + file.position()) / total
                    yield self._chunk(path, lines, first_line, share)
                    first_line += len(lines)
            done += path.stat().st_size

    def identity(self) -> dict[str, Any]:
        """Return every file's identity and split."""
        return {
            "files": [
                {**file_identity(path), "split": self._splits.get(path)}
                for path in self._files
            ]
        }

    def _chunk(
        self, path: Path, lines: list[bytes], first_line: int, share: float
    ) -> Chunk:
        fasttext = self._data.fasttext or FasttextSource()
        rows = _Rows(fasttext.label_prefix, keep_blank=not self._with_labels)
        bad = []
        for number, line in enumerate(lines, start=first_line):
            try:
                rows.add(number, line.decode("utf-8"))
            except UnicodeDecodeError as error:
                bad.append(self._bad_line(path, number, line, error))
        return Chunk(
            pa.table({self._data.label: rows.label_lists, TEXT_COLUMN: rows.texts}),
            str(path),
            np.array(rows.numbers, dtype=np.int64),
            self._splits.get(path),
            share,
            tuple(bad),
        )

    def _bad_line(
        self, path: Path, number: int, line: bytes, error: UnicodeDecodeError
    ) -> BadRow:
        reason = f"the line must be UTF-8, but byte {error.start + 1} is not"
        if self._data.bad_rows is BadRows.error:
            raise DataError(f"{path}, line {number}: {reason}. {MEND_OR_SKIP}")
        return BadRow(str(path), number, reason, line.decode("utf-8", "replace"))


@dataclass(slots=True)
class _Rows:
    prefix: str
    keep_blank: bool
    numbers: list[int] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, number: int, line: str) -> None:
        words = _WORD.findall(line)
        if not words and not self.keep_blank:
            return
        prefix = self.prefix
        self.numbers.append(number)
        self.labels.append(
            [word.removeprefix(prefix) for word in words if word.startswith(prefix)]
        )
        self.words.append(" ".join(w for w in words if not w.startswith(prefix)))

    @property
    def label_lists(self) -> pa.Array:
        return pa.array(self.labels, pa.list_(pa.string()))

    @property
    def texts(self) -> pa.Array:
        return pa.array(self.words, pa.string())


def _blocks(file: InputFile, path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a file, some MiB at a time.

    A byte order mark is no part of the first word: with it a label would be none.
    """
    pending, first_line, started = b"", 1, False
    while fresh := file.read(BLOCK_BYTES):
        if not started:
            fresh, started = _without_mark(fresh, path), True
        *lines, pending = (pending + fresh).split(b"\n")
        if len(pending) > MAX_RECORD_BYTES:
            raise DataError(
                f"{path}, line {first_line + len(lines)}: a line must end within "
                f"{MAX_RECORD_BYTES >> 20} MiB, but this one does not. Check that this "
                "is a text file."
            )
        if lines:
            first_line += len(lines)
            yield lines
    if pending:
        yield [pending]


def _without_mark(text: bytes, path: Path) -> bytes:
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"{path} must be UTF-8 text, but it begins like UTF-16. Convert it: iconv "
            "-f UTF-16 -t UTF-8 FILE > NEW."
        )
    return text.removeprefix(codecs.BOM_UTF8)
