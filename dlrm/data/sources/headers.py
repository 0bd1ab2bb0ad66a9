"""Column names: reading them, and explaining those that are missing."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlrm.config.delimiters import DELIMITERS, delimiter_name
from dlrm.config.errors import DataError
from dlrm.data.columns.shown import cut_short, listed
from dlrm.data.sources.blocks import MAX_RECORD_BYTES
from dlrm.data.sources.dialect import Dialect, Utf8Stream
from dlrm.data.sources.exact import read_record
from dlrm.data.sources.files import InputFile

_FIRST_READ_BYTES = 1 << 16
_MOST_NAMED = 6
MAX_COLUMNS = 10_000
"""A header with more is no header. (Each column costs some time in every block.)"""


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of one delimited file, and where its first row begins."""

    names: tuple[str, ...]
    text: str
    """The first line as it stands."""
    num_bytes: int
    """Of UTF-8 text, before the first row."""
    num_lines: int


def read_header(path: Path, dialect: Dialect) -> Header:
    """Read the first record of a file: its names or, where they are given, its width.

    Raises:
        DataError: The file is empty, its header is blank, is no text, or names a column
            twice.
    """
    data = _first_record_bytes(path, dialect)
    if not data.partition(b"\n")[0].strip(b"\r"):
        raise DataError(
            f"{path} must begin with column names or data, but "
            f"{'its first line' if data.strip() else 'the file'} is empty. Check that "
            "it was written whole."
        )
    parsed = read_record(data, 0, dialect)
    if parsed is None and len(data) > MAX_RECORD_BYTES:
        raise DataError(
            f"{path}, line 1: a header must end within {MAX_RECORD_BYTES >> 20} MiB, "
            "but this one does not. Check that this is a text file."
        )
    if parsed is None:
        raise DataError(
            f"{path}, line 1: a quote is opened and never closed. Mend the line."
        )
    end, fields, fault = parsed
    if fault:
        raise DataError(f"{path}, line 1: the header {fault}. Mend the line.")
    text = data[:end].decode("utf-8", "replace").rstrip("\r\n")
    if "\r" in text:
        raise DataError(
            f"{path} must end its lines with LF or CR LF, but they end with CR alone. "
            "Convert it: tr '\\r' '\\n' < FILE > NEW."
        )
    if dialect.column_names is not None:
        return _given_names(path, dialect.column_names, fields, text)
    if len(fields) > MAX_COLUMNS:
        raise DataError(
            f"{path}, line 1: a table must have at most {MAX_COLUMNS:,} columns, but "
            f"the header has {len(fields):,}. Check the separator, and that this is a "
            "table."
        )
    names = [
        _decode_name(field, number, path)
        for number, field in enumerate(fields, start=1)
    ]
    _refuse_duplicates(names, path, dialect)
    return Header(tuple(names), text, end, data.count(b"\n", 0, end))


def _first_record_bytes(path: Path, dialect: Dialect) -> bytes:
    data = b""
    with InputFile(path) as file:
        stream = Utf8Stream(file, dialect, name=str(path))
        size = _FIRST_READ_BYTES
        while fresh := stream.read(size):
            data += fresh
            if (
                read_record(data, 0, dialect) is not None
                or len(data) > MAX_RECORD_BYTES
            ):
                return data
            size *= 2
    return data + b"\n"


def _given_names(
    path: Path, names: tuple[str, ...], fields: list[bytes], text: str
) -> Header:
    if [field.decode("utf-8", "replace") for field in fields] == list(names):
        raise DataError(
            f"{path} must have no header line where data.table.column_names is set, "
            "but its first line repeats those names. Remove data.table.column_names."
        )
    return Header(names, text, 0, 0)


def _decode_name(field: bytes, number: int, path: Path) -> str:
    try:
        name = field.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line 1: column {number} has byte 0x{field[error.start]:02x}, "
            "which the encoding does not know. Check that this is a text file; if it "
            "is, perhaps set data.table.encoding=latin-1."
        ) from error
    if "\0" in name:
        raise DataError(
            f"{path}, line 1: column {number} has a NUL byte. Check that this is a "
            "text file; if it is, perhaps set data.table.encoding=utf-16-le."
        )
    # pandas writes its index under an empty name.
    return name or f"column_{number}"


def _refuse_duplicates(names: Sequence[str], path: Path, dialect: Dialect) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}, line 1: column names must differ, but "
            f"{listed(twice)} "
            f"stands there more than once. Rename one. {_hint_at_header(dialect)}"
        )


def check_same_columns(
    path: Path, names: Sequence[str], first: Path, wanted: Sequence[str]
) -> None:
    """Refuse a file whose columns are not the first one's; their order may differ.

    Raises:
        DataError: A column is missing or there is one too many.
    """
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if missing or extra:
        lacks = f"lacks {listed(missing)}" if missing else ""
        has = f"has {listed(extra)} besides" if extra else ""
        raise DataError(
            f"{path} must have the same columns as {first}, but it "
            f"{' and '.join(filter(None, (lacks, has)))}."
        )


def missing_columns(
    missing: Sequence[str],
    found: Sequence[str],
    *,
    file: str,
    keys: Mapping[str, str] | None = None,
    header: str | None = None,
    dialect: Dialect | None = None,
) -> DataError:
    """Describe columns that are needed and not there: the likely cause first.

    ``keys`` are the settings that name columns.
    """
    keys = keys or {}
    wanted = ", ".join(
        f"{name!r} ({keys[name]})" if name in keys else repr(name)
        for name in missing[:_MOST_NAMED]
    )
    wanted += ", ..." if len(missing) > _MOST_NAMED else ""
    columns = "the column" if len(missing) == 1 else "the columns"
    message = f"{file} must have {columns} {wanted}, but it has not."
    if header is not None and dialect is not None:
        other = _better_separator(header, missing, dialect.separator)
        if other:
            return DataError(
                f"{message} Its header separates columns by {other}, not by "
                f"{delimiter_name(dialect.separator)}: set "
                f"{dialect.section}separator={other}."
            )
    hints = [
        f"{name!r} may be {near[0]!r}"
        for name in missing[:_MOST_NAMED]
        if (near := difflib.get_close_matches(name, found, n=1, cutoff=0.6))
    ]
    some = ", ".join(map(cut_short, found[:40])) + (", ..." if len(found) > 40 else "")
    parts = [message, f"Columns found: {cut_short(some, most=2_000)}."]
    if hints:
        parts.append(f"Perhaps {'; '.join(hints)}.")
    elif dialect is not None:
        parts.append(_hint_at_header(dialect))
    return DataError(" ".join(parts))


def _hint_at_header(dialect: Dialect) -> str:
    section = dialect.section
    way = f"set {section}column_names" if section else "write one first"
    return f"If the file has no header line, {way}."


def _better_separator(
    header: str, missing: Sequence[str], separator: str
) -> str | None:
    """Name a separator under which the header has every missing column."""
    for name, character in DELIMITERS.items():
        names = [field.strip('"') for field in header.split(character)]
        if character != separator and len(names) > 1 and set(missing) <= set(names):
            return name
    return None
