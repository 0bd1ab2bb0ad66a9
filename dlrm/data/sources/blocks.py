"""Delimited text cut into blocks of whole records, a few MiB each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dlrm.config.errors import DataError
from dlrm.data.sources.dialect import Dialect, Utf8Stream
from dlrm.data.sources.exact import read_record
from dlrm.kernels.text_library import count_lines

MAX_RECORD_BYTES = 64 << 20
"""A record longer than this is a quote that was never closed, or no text at all."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive records."""

    data: bytes
    """UTF-8 text; the last record ends with a line end, too."""
    first_line: int
    lines: np.ndarray | None
    """int64, the line where each record starts; None where only the exact parser can
    tell, because quotes, carriage returns or NUL bytes stand in unusual places."""
    position: int
    """Bytes of the file on disk read so far."""


def cut_blocks(
    stream: Utf8Stream,
    dialect: Dialect,
    *,
    name: str,
    skip_bytes: int,
    first_line: int,
    num_columns: int,
    block_bytes: int,
) -> Iterator[Block]:
    """Yield the text after ``skip_bytes`` (the header), about ``block_bytes`` each.

    Blank lines at the end of the file are left out, unless there is but one column,
    where a blank line is a row.

    Raises:
        DataError: A record is longer than ``MAX_RECORD_BYTES``.
    """
    pending = b""
    to_skip = skip_bytes
    final = False
    while not final:
        fresh = stream.read(block_bytes)
        final = not fresh
        skipped = min(to_skip, len(fresh))
        to_skip -= skipped
        pending += fresh[skipped:]
        if final and pending and not pending.endswith(b"\n"):
            pending += b"\n"
        while pending:
            cut, lines = _cut(pending, dialect, keep_blank=num_columns == 1)
            if cut == 0 and final and pending.strip(b"\r\n"):
                # A quote is never closed: its first line is a bad row, the rest is not.
                cut, lines = pending.index(b"\n") + 1, None
            if cut == 0:
                _refuse_endless(pending, name, first_line)
                break
            data, pending = pending[:cut], pending[cut:]
            starts = None if lines is None else lines + first_line
            yield Block(data, first_line, starts, stream.position())
            first_line += count_lines(data, len(data))[0]


def _refuse_endless(data: bytes, name: str, line: int) -> None:
    if len(data) > MAX_RECORD_BYTES:
        raise DataError(
            f"{name}, line {line}: a row must end within {MAX_RECORD_BYTES >> 20} MiB, "
            "but this one does not. Close its quote, set data.table.quoting=false if "
            "quotes are plain text here, or check that this is a text file."
        )


def _cut(
    data: bytes, dialect: Dialect, *, keep_blank: bool
) -> tuple[int, np.ndarray | None]:
    """Return where the last whole record ends, and the records' lines from 0.

    The place is 0 where no record ends; the lines are None where the exact parser is
    needed.
    """
    has_returns = b"\r" in data
    plain = b"\0" not in data and (
        not has_returns or data.count(b"\r") == data.count(b"\r\n")
    )
    if not dialect.quoting or b'"' not in data:
        cut = _before_blank_lines(data, data.rfind(b"\n") + 1, keep_blank)
        num_lines, has_blank = count_lines(data, cut)
        lines = np.arange(num_lines, dtype=np.int64)
        if has_returns:
            has_blank = _has_blank_line(data, cut)
        return cut, lines if plain and (keep_blank or not has_blank) else None
    text = np.frombuffer(data, dtype=np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    if not _are_regular(quotes, text, dialect.separator_bytes):
        return _before_blank_lines(data, _exact_end(data, dialect), keep_blank), None
    newlines = np.flatnonzero(text == ord("\n"))
    # Where quotes are regular, an odd number of them before a line end means that the
    # line end stands inside a quoted field.
    is_end = np.searchsorted(quotes, newlines) % 2 == 0
    last = np.flatnonzero(is_end)[-1:]
    cut = int(newlines[last[0]]) + 1 if len(last) else 0
    cut = _before_blank_lines(data, cut, keep_blank)
    is_end &= newlines < cut
    lines = np.concatenate([[0], np.flatnonzero(is_end) + 1])[:-1]
    ends = np.concatenate([[-1], newlines[is_end]])
    # A record of one byte besides its line end may be a carriage return alone.
    plain = plain and (keep_blank or bool((np.diff(ends) > 2).all()))
    return cut, lines if plain else None


def _has_blank_line(data: bytes, cut: int) -> bool:
    """Say whether Arrow would make rows of nulls from blank lines."""
    starts = data.startswith((b"\n", b"\r\n"))
    return (
        starts or data.find(b"\n\n", 0, cut) >= 0 or data.find(b"\n\r\n", 0, cut) >= 0
    )


def _are_regular(quotes: np.ndarray, text: np.ndarray, separator: bytes) -> bool:
    """Say whether each quote opens or closes a field, or is one of a doubled pair."""
    if len(separator) != 1:
        return False
    before = np.append(text, ord("\n"))[quotes - 1]
    after = np.append(text, ord("\n"))[quotes + 1]
    may_open = np.isin(before[0::2], list(separator + b'\n"'))
    may_close = np.isin(after[1::2], list(separator + b'\r\n"'))
    return bool(may_open.all() and may_close.all())


def _exact_end(data: bytes, dialect: Dialect) -> int:
    end = 0
    while end < len(data) and (parsed := read_record(data, end, dialect)) is not None:
        end = parsed[0]
    return end


def _before_blank_lines(data: bytes, cut: int, keep_blank: bool) -> int:
    """Move ``cut`` back over blank lines, which are nothing if the file ends here."""
    if keep_blank or cut == 0:
        return cut
    body = data[max(0, cut - 4) : cut]
    if not body.endswith((b"\n\n", b"\n\r\n")) and body.strip(b"\r\n"):
        return cut
    length = len(data[:cut].rstrip(b"\r\n"))
    return data.index(b"\n", length) + 1 if length else 0
