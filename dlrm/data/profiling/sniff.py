"""How an unknown text table is written, and whether its label is one."""

from __future__ import annotations

from pathlib import Path

from dlrm.config.data import TableSource
from dlrm.config.delimiters import DELIMITERS
from dlrm.config.errors import DataError
from dlrm.data.columns.shown import shown
from dlrm.data.profiling.inspect import TableProfile
from dlrm.data.sources.dialect import Dialect
from dlrm.data.sources.files import InputFile
from dlrm.data.sources.headers import read_header

_HEAD_BYTES = 1 << 20


def find_encoding(file: Path) -> str:
    """Return utf-16 by its mark, utf-8 where the first MiB is, else latin-1."""
    with InputFile(file) as opened:
        head = opened.read(_HEAD_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        head.decode()
    except UnicodeDecodeError as error:
        halved = len(head) == _HEAD_BYTES and error.start > len(head) - 4
        return "utf-8" if halved else "latin-1"
    return "utf-8"


def find_separator(file: Path, table: TableSource, label: str) -> str:
    """Name the separator that makes the label, and then most columns, appear."""
    given = Dialect(encoding=table.encoding, column_names=())
    header = read_header(file, given).text

    def columns(name: str) -> tuple[bool, int]:
        names = [part.strip('"') for part in header.split(DELIMITERS[name])]
        return label in names, len(names)

    return max(DELIMITERS, key=columns)


def check_label(profile: TableProfile, label: str) -> None:
    """Refuse a label that is not 0 and 1.

    Raises:
        DataError: There are no rows, or a label is missing, is neither 0 nor 1, or is
        the
            same in every row.
    """
    if profile.num_rows == 0:
        raise DataError("The table must have rows, but it has none that can be read.")
    column = profile.columns[label]
    if column.kind == "other":
        raise DataError(
            f"label must be 0 or 1 in every row, but {label!r} holds "
            f"{column.type_name} values. Name another column."
        )
    if column.num_missing:
        raise DataError(
            f"label must be 0 or 1 in every row, but {label!r} is missing in "
            f"{column.num_missing:,} of {column.num_rows:,} rows. Fill or drop them."
        )
    odd = [value for value in column.values if not _is_click(value)]
    if odd:
        some = ", ".join(map(shown, odd[:5]))
        raise DataError(
            f"label must be 0 or 1 in every row, but {label!r} has {some}. Name "
            "another column, or write its values as 0 and 1."
        )
    if column.num_distinct == 1:
        raise DataError(
            f"label must have both 0 and 1, but {label!r} is {column.values[0]} in "
            "every row: there is nothing to learn."
        )


def _is_click(value: object) -> bool:
    try:
        return float(str(int(value) if isinstance(value, bool) else value)) in (0, 1)
    except ValueError:
        return False
