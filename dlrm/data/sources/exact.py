"""The slow parser of delimited text: one record at a time, every fault named.

It is the judge of blocks that the fast parser refuses, and defines what a row is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlrm.data.sources.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Record:
    """One row of text, its place, and what is wrong with it."""

    line: int
    """1-based line where it starts."""
    text: bytes
    """As it stands in the file, without the line end."""
    fields: list[bytes]
    fault: str = ""


def read_record(
    data: bytes, start: int, dialect: Dialect
) -> tuple[int, list[bytes], str] | None:
    """Parse the record at ``start``: its end (after the line end), fields and fault.

    Returns None where ``data`` ends before the record does.
    """
    end = data.find(b"\n", start)
    if end < 0:
        return None
    line = data[start:end]
    separator = dialect.separator_bytes
    if not dialect.quoting or b'"' not in line:
        return end + 1, line.removesuffix(b"\r").split(separator), ""
    return _read_quoted(data, start, separator)


def _read_quoted(
    data: bytes, start: int, separator: bytes
) -> tuple[int, list[bytes], str] | None:
    fields: list[bytes] = []
    fault, end = "", -1
    while True:
        quoted = data.startswith(b'"', start)
        text = b""
        if quoted:
            close = _closing_quote(data, start + 1)
            if close < 0:
                return None
            text = data[start + 1 : close].replace(b'""', b'"')
            start = close + 1
        # Looked for once a line, not once a field: a line may hold millions of them.
        if end < start:
            end = data.find(b"\n", start)
        if end < 0:
            return None
        cut = data.find(separator, start, end)
        tail = data[start : end if cut < 0 else cut]
        if cut < 0:
            tail = tail.removesuffix(b"\r")
        if quoted and tail and not fault:
            fault = f"has text after the closing quote of column {len(fields) + 1}"
        fields.append(text + tail)
        if cut < 0:
            return end + 1, fields, fault
        start = cut + len(separator)


def _closing_quote(data: bytes, start: int) -> int:
    """Return where the quoted text that begins at ``start`` ends, or -1."""
    while True:
        close = data.find(b'"', start)
        if close < 0 or not data.startswith(b'"', close + 1):
            return close
        start = close + 2


def read_records(
    data: bytes,
    *,
    first_line: int,
    names: Sequence[str],
    wanted: Sequence[int],
    dialect: Dialect,
) -> Iterator[Record]:
    """Yield all records of ``data``, judged against the columns ``names``.

    ``wanted`` are the numbers of the columns that somebody will read: only they must be
    sound text. ``data`` ends with a line end; an unclosed quote costs its own line, and
    reading goes on with the next one.
    """
    start, line = 0, first_line
    while start < len(data):
        parsed = read_record(data, start, dialect)
        if parsed is None:
            end = data.index(b"\n", start) + 1
            fields, fault = [b""], "opens a quote that is never closed"
        else:
            end, fields, fault = parsed
        text = data[start:end].removesuffix(b"\n").removesuffix(b"\r")
        fault = fault or _fault(fields, text, names, wanted)
        yield Record(line, text, fields, fault)
        line += data.count(b"\n", start, end)
        start = end


def _fault(
    fields: list[bytes], text: bytes, names: Sequence[str], wanted: Sequence[int]
) -> str:
    if len(fields) != len(names):
        if not text:
            return f"is blank where a row of {len(names)} columns must stand"
        found = f"has {len(fields)} columns where {len(names)} must stand"
        if len(fields) < len(names):
            return f"{found}: it ends before column {names[len(fields)]!r}"
        return f"{found}: it goes on after the last column, {names[-1]!r}"
    if b"\0" not in text and _is_utf8(text):
        return ""
    for number in wanted:
        place = f"in column {number + 1} ({names[number]!r})"
        if b"\0" in fields[number]:
            return f"has a NUL byte {place}"
        try:
            fields[number].decode()
        except UnicodeDecodeError as error:
            byte = fields[number][error.start]
            return f"has byte 0x{byte:02x} {place}, which the encoding does not know"
    return ""


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
