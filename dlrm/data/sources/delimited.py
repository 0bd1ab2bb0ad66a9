"""Delimited text as chunks: a fast parser, and an exact one where that one refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from dlrm.config.data import BadRows
from dlrm.config.errors import DataError
from dlrm.data.background import in_background
from dlrm.data.sources.blocks import Block, cut_blocks
from dlrm.data.sources.chunk import MEND_OR_SKIP, BadRow, Chunk
from dlrm.data.sources.dialect import Dialect, Utf8Stream
from dlrm.data.sources.exact import Record, read_records
from dlrm.data.sources.files import InputFile, total_bytes
from dlrm.data.sources.headers import (
    Header,
    check_same_columns,
    missing_columns,
    read_header,
)

BLOCK_BYTES = 8 << 20
_UNIT_SEPARATOR = b"\x1f"


def read_delimited(
    files: Sequence[Path],
    dialect: Dialect,
    *,
    columns: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
    bad_rows: BadRows = BadRows.error,
    splits: Mapping[Path, str] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Chunk]:
    """Yield all rows of ``files`` as string columns, parsed ahead on a thread.

    ``columns`` are those to keep, in that order, all of the first file's where None;
    ``optional`` ones follow where the files have them. ``keys`` are the settings that
    name columns. Every file's header is checked
    before the first row is read. ``splits`` tags files.

    Raises:
        DataError: A file cannot be read, a column is missing, or, unless they are
            skipped, a row is not sound: file, line and column are named.
    """
    headers = check_headers(files, dialect, columns, keys=keys)
    found = headers[0].names
    wanted = tuple(columns if columns is not None else found)
    wanted += tuple(name for name in optional if name in found)
    size, done = total_bytes(files), 0
    for path, header in zip(files, headers, strict=True):
        parser = _BlockParser(
            str(path), header.names, wanted, dialect, bad_rows, (splits or {}).get(path)
        )
        with InputFile(path) as file:
            blocks = cut_blocks(
                Utf8Stream(file, dialect, name=str(path)),
                dialect,
                name=str(path),
                skip_bytes=header.num_bytes,
                first_line=1 + header.num_lines,
                num_columns=len(header.names),
                block_bytes=block_bytes,
            )
            yield from in_background(
                parser.parse(block, (done + block.position) / size) for block in blocks
            )
        done += path.stat().st_size


def check_headers(
    files: Sequence[Path],
    dialect: Dialect,
    columns: Sequence[str] | None,
    *,
    keys: Mapping[str, str] | None = None,
) -> list[Header]:
    """Read every file's header and check that it has what is needed.

    Raises:
        DataError: A header is not sound, lacks a column or differs from the first one.
    """
    headers = [read_header(path, dialect) for path in files]
    first = headers[0].names
    missing = [name for name in columns or () if name not in first]
    if missing:
        raise missing_columns(
            missing,
            first,
            file=str(files[0]),
            keys=keys,
            header=headers[0].text,
            dialect=dialect,
        )
    for path, header in zip(files, headers, strict=True):
        check_same_columns(path, header.names, files[0], first)
    return headers


@dataclass(frozen=True, slots=True)
class _BlockParser:
    """Blocks of one file to chunks."""

    file: str
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    dialect: Dialect
    bad_rows: BadRows
    split: str | None

    def parse(self, block: Block, progress: float) -> Chunk:
        """Parse fast where that is exact, and row by row where it is not."""
        table = self._parse_fast(block)
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

    def _parse_fast(self, block: Block) -> pa.Table | None:
        separator, data = self.dialect.separator_bytes, block.data
        if block.lines is None:
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
