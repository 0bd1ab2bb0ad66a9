"""What a Parquet footer says of its rows, read without Arrow.

Arrow's own view of a column's metadata ends the process where a footer was damaged in
some ways: its C++ exceptions are not caught there. Footers are Thrift structures in the
compact protocol, and tables of fields by number (parquet-format, ``parquet.thrift``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TAIL = struct.Struct("<I4s")
_MAGIC = b"PAR1"
_ROW_GROUPS, _COLUMNS, _NUM_ROWS, _META_DATA, _PATH, _NUM_VALUES = 4, 1, 3, 3, 3, 5
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_MOST_NESTED = 32


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows of one row group, and values of each of its columns by dotted path."""

    num_rows: int
    num_values: Mapping[str, int]


def read_row_groups(path: Path) -> list[RowGroup]:
    """Return what the footer says of each row group.

    Raises:
        ValueError: The footer is none.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL.size, 0))
        tail = file.read(_TAIL.size)
        if len(tail) < _TAIL.size:
            raise ValueError("it has no footer")
        length, magic = _TAIL.unpack(tail)
        if magic != _MAGIC or length > size - _TAIL.size:
            raise ValueError("it has no footer")
        file.seek(size - _TAIL.size - length)
        data = file.read(length)
    try:
        footer = _Cursor(data).struct_()
        return [_row_group(group) for group in footer.get(_ROW_GROUPS, [])]
    except (IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError("its footer is damaged") from error


def _row_group(group: dict[int, Any]) -> RowGroup:
    columns = [column[_META_DATA] for column in group[_COLUMNS]]
    return RowGroup(
        group[_NUM_ROWS],
        {
            b".".join(column[_PATH]).decode("utf-8", "replace"): column[_NUM_VALUES]
            for column in columns
        },
    )


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._depth = 0

    def struct_(self) -> dict[int, Any]:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise ValueError("its footer is damaged")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._whole()
            fields[number] = kind == _TRUE if kind <= _FALSE else self._value(kind)
        self._depth -= 1
        return fields

    def _value(self, kind: int) -> Any:
        if kind == _STRUCT:
            return self.struct_()
        if kind in (_LIST, _SET):
            return self._list()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind > _SET:
            raise ValueError("its footer is damaged")
        return self._whole()

    def _list(self) -> list[Any]:
        head = self._byte()
        kind, size = head & 15, head >> 4
        count = self._varint() if size == 15 else size
        # Every value takes a byte: what follows is too short for more.
        if count > len(self._data) - self._at:
            raise ValueError("its footer is damaged")
        return [self._value(kind) for _ in range(count)]

    def _whole(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("its footer is damaged")
        return number | byte << shift

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ValueError("its footer is damaged")
        self._at += count
        return found
