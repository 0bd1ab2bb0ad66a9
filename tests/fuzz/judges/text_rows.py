"""The slow judge of delimited text: a machine over characters, one file at a time.

Written from the definition in docs/data.md and in ``Dialect``: fields, quotes, line
ends, what a header must be, and which rows are bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """One record: its line, and its fields unless it is bad."""

    line: int
    fields: list[str] | None
    fault: str = ""
    """What the reader's reason must say."""


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """The columns and records of a file; None for one that must be refused."""

    names: list[str]
    rows: list[JudgedRow]


def judge_file(
    text: str,
    *,
    separator: str,
    quoting: bool,
    given_names: Sequence[str] | None = None,
    wanted: Sequence[str] | None = None,
) -> JudgedFile | None:
    """Judge the text of a whole file; bytes that are no text are lone surrogates."""
    text = text.removeprefix("\ufeff")
    header, after = _record(
        text if text.endswith("\n") else text + "\n", 0, separator, quoting
    )
    if header is None or header.tail or not header.text.split("\n")[0].strip("\r"):
        return None
    if "\r" in header.text.rstrip("\r\n"):
        return None
    if given_names is not None:
        if header.fields == list(given_names):
            return None
        names, start, line = list(given_names), 0, 1
    else:
        names = [name or f"column_{i}" for i, name in enumerate(header.fields, 1)]
        if any(_no_text(n) or "\0" in n for n in names) or len(set(names)) < len(names):
            return None
        start, line = after, 1 + text[:after].count("\n")
    body = text[start:]
    if body and not body.endswith("\n"):
        body += "\n"
    rows = _records(body, line, names, list(wanted or names), separator, quoting)
    # Blank lines at the end are nothing, unless there is but one column.
    while len(names) > 1 and rows and not rows[-1][1].strip("\r\n"):
        rows.pop()
    return JudgedFile(names, [row for row, _ in rows])


@dataclass(slots=True)
class _Record:
    fields: list[str]
    text: str
    tail: int = 0
    """Number of the first field with text after its closing quote; 0 for none."""


def judge_rows(
    body: str,
    *,
    line: int,
    names: list[str],
    wanted: list[str],
    separator: str,
    quoting: bool,
) -> list[JudgedRow]:
    """Judge all records of ``body``, the first of which stands at ``line``."""
    return [row for row, _ in _records(body, line, names, wanted, separator, quoting)]


def _records(
    body: str,
    line: int,
    names: list[str],
    wanted: list[str],
    separator: str,
    quoting: bool,
) -> list[tuple[JudgedRow, str]]:
    start, rows = 0, []
    while start < len(body):
        record, stop = _record(body, start, separator, quoting)
        if record is None:
            # A quote that nothing closes costs its own line, and no more.
            stop = body.index("\n", start) + 1
            row = JudgedRow(line, None, "never closed")
        else:
            row = _judge_record(line, record, names, wanted)
        rows.append((row, body[start:stop]))
        line += body.count("\n", start, stop)
        start = stop
    return rows


def _judge_record(
    line: int, record: _Record, names: list[str], wanted: list[str]
) -> JudgedRow:
    fields = record.fields
    if record.tail:
        fault = f"after the closing quote of column {record.tail}"
        return JudgedRow(line, None, fault)
    if len(fields) != len(names):
        if not record.text:
            return JudgedRow(line, None, "blank")
        fault = f"has {len(fields)} columns where {len(names)} must stand"
        return JudgedRow(line, None, fault)
    for name in wanted:
        number = names.index(name)
        if "\0" in fields[number] or _no_text(fields[number]):
            return JudgedRow(line, None, f"in column {number + 1} ({name!r})")
    return JudgedRow(line, [fields[names.index(name)] for name in wanted])


def _no_text(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


def _record(
    text: str, start: int, separator: str, quoting: bool
) -> tuple[_Record | None, int]:
    """Read one record from ``start``; None where a quote stays open."""
    fields: list[str] = []
    tail, at = 0, start
    while True:
        closed, field = False, ""
        if quoting and text.startswith('"', at):
            at += 1
            while True:
                if at >= len(text):
                    return None, at
                if text.startswith('""', at):
                    field, at = field + '"', at + 2
                elif text[at] == '"':
                    at, closed = at + 1, True
                    break
                else:
                    field, at = field + text[at], at + 1
        rest = ""
        while (
            at < len(text) and text[at] != "\n" and not text.startswith(separator, at)
        ):
            rest, at = rest + text[at], at + 1
        if at >= len(text):
            return None, at
        ends = text[at] == "\n"
        if ends:
            rest = rest.removesuffix("\r")
        if closed and rest and not tail:
            tail = len(fields) + 1
        fields.append(field + rest)
        if ends:
            whole = text[start:at].removesuffix("\r")
            return _Record(fields, whole, tail), at + 1
        at += len(separator)
