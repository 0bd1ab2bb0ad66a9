"""Delimited text as chunks: a fast parser, and an exact one where that one refuses."""

from __future__ import annotations

import codecs
import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from dlrm.data.sources.files import (
    GZIP_MAGIC,
    InputFile,
    read_magic,
    total_bytes,
)
from dlrm.data.sources.headers import (
    Header,
    check_same_columns,
    missing_columns,
    read_header,
)

BLOCK_BYTES = 8 << 20
_UNIT_SEPARATOR = b"\x1f"
_UTF8_BOM = b"\xef\xbb\xbf"


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
    pieces = delimited_pieces(
        files,
        dialect,
        columns=columns,
        optional=optional,
        keys=keys,
        bad_rows=bad_rows,
        splits=splits,
        block_bytes=block_bytes,
    )
    yield from in_background(chunk for piece in pieces for chunk in piece.chunks())


def delimited_pieces(
    files: Sequence[Path],
    dialect: Dialect,
    *,
    columns: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
    bad_rows: BadRows = BadRows.error,
    splits: Mapping[Path, str] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[DelimitedPiece]:
    """Yield the rows as ``read_delimited`` does, cut into pieces but not yet parsed.

    Raises:
        DataError: A file cannot be read, or a column is missing.
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
            start = _first_row_byte(path, dialect, header)
            for block in blocks:
                progress = (done + block.position) / size
                yield DelimitedPiece(parser, block, progress, path, start)
                start = None if start is None else start + len(block.data)
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
class DelimitedPiece:
    """Some rows of one file as text, which any process can parse."""

    parser: _BlockParser
    block: Block
    progress: float
    path: Path
    start: int | None = None
    """Where the text begins in the file, as it stands there; None where it does not."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Send another process to the file, where it can read the text itself."""
        stop = (self.start or 0) + len(self.block.data)
        if self.start is None or stop > self.path.stat().st_size:
            fields = (self.parser, self.block, self.progress, self.path, self.start)
            return DelimitedPiece, fields
        block = dataclasses.replace(self.block, data=b"")
        size = len(self.block.data)
        return _read_piece, (
            self.parser, block, self.progress, self.path, self.start, size,
        )  # fmt: skip

    def chunks(self) -> Iterator[Chunk]:
        """Parse the rows.

        Raises:
            DataError: A row is not sound, unless such rows are skipped.
        """
        yield self.parser.parse(self.block, self.progress)

    def digest(self) -> str:
        """Return text that changes with the rows and their place."""
        return f"{self.block.first_line}:{zlib.crc32(self.block.data)}"


def _first_row_byte(path: Path, dialect: Dialect, header: Header) -> int | None:
    """Return where rows begin in a local file of plain UTF-8; None in any other."""
    is_local = type(path) is type(Path())
    if not is_local or codecs.lookup(dialect.encoding).name != "utf-8":
        return None
    magic = read_magic(path)
    if magic.startswith(GZIP_MAGIC):
        return None
    return header.num_bytes + (len(_UTF8_BOM) if magic.startswith(_UTF8_BOM) else 0)


def _read_piece(
    parser: _BlockParser,
    block: Block,
    progress: float,
    path: Path,
    start: int,
    size: int,
) -> DelimitedPiece:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        data = file.read(size)
    if len(data) != size:
        raise DataError(
            f"{path} must stay as it is while it is read, but it has become shorter. "
            f"Start again once it is written."
        )
    whole = dataclasses.replace(block, data=data)
    return DelimitedPiece(parser, whole, progress, path, start)


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
        if block.lines is None or data.startswith(_UTF8_BOM):
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
