"""Blocks of delimited text to tables: the faster a parser, the less it takes on.

Native code reads plain text, Arrow text with quotes or odd numbers, and the exact
parser whatever those refuse: it alone says what is wrong with a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from dlrm.config.data import BadRows
from dlrm.config.errors import DataError
from dlrm.data.columns.parse_numbers import number_of
from dlrm.data.sources.blocks import Block
from dlrm.data.sources.chunk import MEND_OR_SKIP, BadRow, Chunk
from dlrm.data.sources.dialect import UTF8_BOM, Dialect
from dlrm.data.sources.exact import Record, read_records
from dlrm.kernels.text_library import CodedTexts, ColumnKind, read_text

_UNIT_SEPARATOR = b"\x1f"


@dataclass(frozen=True, slots=True)
class BlockParser:
    """Blocks of one file to chunks."""

    file: str
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    dialect: Dialect
    bad_rows: BadRows
    split: str | None
    kinds: Mapping[str, ColumnKind] = field(default_factory=dict)

    def parse(self, block: Block, progress: float) -> Chunk:
        """Parse fast where that is exact, and row by row where it is not."""
        table = self._parse_natively(block) or self._parse_fast(block)
        if table is not None and block.lines is not None:
            return Chunk(table, self.file, block.lines, self.split, progress)
        good, bad = self._parse_exactly(block)
        rows = np.array([record.line for record in good], dtype=np.int64)
        table = None
        if bad and good and block.lines is not None:
            # Without its bad rows the block may well be one for the fast parser.
            text = b"\n".join(record.text for record in good) + b"\n"
            table = self._parse_fast(Block(text, block.first_line, rows, 0))
        table = self._table(good) if table is None else table
        return Chunk(table, self.file, rows, self.split, progress, bad)

    def _parse_natively(self, block: Block) -> pa.Table | None:
        """Parse and type the columns at once; None where the next parser is to."""
        separator, data, nulls = self.dialect.separator_bytes, block.data, self._nulls()
        if (
            not self.kinds
            or block.lines is None
            or len(separator) != 1
            or nulls is None
            or (self.dialect.quoting and b'"' in data)
        ):
            return None
        kinds = [self.kinds.get(name, ColumnKind.text) for name in self.wanted]
        found = read_text(
            data,
            separator=separator,
            num_fields=len(self.names),
            num_rows=len(block.lines),
            columns=[
                (self.names.index(name), kind)
                for name, kind in zip(self.wanted, kinds, strict=True)
            ],
            nulls=nulls,
        )
        if found is None or not (found.is_ascii or _is_utf8(data)):
            return None
        return pa.table(
            {
                name: self._array(name, column)
                for name, column in zip(self.wanted, found.columns, strict=True)
            }
        )

    def _nulls(self) -> list[bytes] | None:
        """Return what stands for a missing number; None where a number does."""
        nulls = [value for value in self.dialect.null_values if value]
        stand_for_numbers = [n for n in map(number_of, nulls) if n is not None]
        if any(map(math.isfinite, stand_for_numbers)):
            return None
        return [value.encode() for value in nulls]

    def _array(self, name: str, column: np.ndarray | CodedTexts) -> pa.Array:
        if not isinstance(column, CodedTexts):
            return pa.array(column)
        is_null = self._is_null(column)
        buffers = (pa.py_buffer(column.offsets), pa.py_buffer(column.data))
        bits = np.packbits(~is_null, bitorder="little")
        texts = pa.StringArray.from_buffers(
            is_null.size, *buffers, pa.py_buffer(bits), int(is_null.sum())
        )
        coded = pa.DictionaryArray.from_arrays(pa.array(column.codes), texts)
        return coded if name in self.kinds else coded.dictionary_decode()

    def _is_null(self, column: CodedTexts) -> np.ndarray:
        """Say which texts stand for a missing value."""
        is_null = np.diff(column.offsets) == 0
        is_null &= "" in self.dialect.null_values
        others = [value for value in self.dialect.null_values if value]
        if others:
            buffers = (pa.py_buffer(column.offsets), pa.py_buffer(column.data))
            texts = pa.StringArray.from_buffers(is_null.size, *buffers)
            found = pc.is_in(texts, value_set=pa.array(others))
            is_null |= found.to_numpy(zero_copy_only=False)
        return is_null

    def _parse_fast(self, block: Block) -> pa.Table | None:
        separator, data = self.dialect.separator_bytes, block.data
        if block.lines is None or data.startswith(UTF8_BOM):
            # Arrow would drop such a mark, which is text wherever no file begins.
            return None
        if len(separator) > 1:
            if _UNIT_SEPARATOR in data:
                return None
            data = data.replace(separator, _UNIT_SEPARATOR)
            separator = _UNIT_SEPARATOR
        try:
            table = csv.read_csv(
                pa.BufferReader(data),
                csv.ReadOptions(
                    column_names=self.names, block_size=len(data) + 1, use_threads=False
                ),
                csv.ParseOptions(
                    delimiter=separator.decode(),
                    quote_char='"' if self.dialect.quoting else False,
                    newlines_in_values=self.dialect.quoting,
                    ignore_empty_lines=False,
                ),
                csv.ConvertOptions(
                    column_types={name: pa.string() for name in self.wanted},
                    include_columns=self.wanted,
                    null_values=self.dialect.null_values,
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid:
            return None
        return table if table.num_rows == len(block.lines) else None

    def _parse_exactly(self, block: Block) -> tuple[list[Record], tuple[BadRow, ...]]:
        good: list[Record] = []
        bad: list[BadRow] = []
        records = read_records(
            block.data,
            first_line=block.first_line,
            names=self.names,
            wanted=[self.names.index(name) for name in self.wanted],
            dialect=self.dialect,
        )
        for record in records:
            if not record.fault:
                good.append(record)
            elif self.bad_rows is BadRows.skip:
                text = record.text.decode("utf-8", "replace")
                bad.append(BadRow(self.file, record.line, record.fault, text))
            else:
                raise DataError(
                    f"{self.file}, line {record.line}: the row {record.fault}. "
                    f"{MEND_OR_SKIP}"
                )
        return good, tuple(bad)

    def _table(self, records: Sequence[Record]) -> pa.Table:
        nulls = {value.encode() for value in self.dialect.null_values}
        columns = {}
        for name in self.wanted:
            number = self.names.index(name)
            fields = (record.fields[number] for record in records)
            texts = [None if field in nulls else field.decode() for field in fields]
            columns[name] = pa.array(texts, pa.string())
        return pa.table(columns)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
