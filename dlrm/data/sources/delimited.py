"""Delimited text as chunks, cut into pieces that any process can parse."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm.config.data import BadRows
from dlrm.config.errors import DataError
from dlrm.data.background import in_background
from dlrm.data.sources.block_parser import BlockParser
from dlrm.data.sources.blocks import Block, cut_blocks
from dlrm.data.sources.chunk import Chunk
from dlrm.data.sources.dialect import UTF8_BOM, Dialect, Utf8Stream
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
from dlrm.kernels.checksum import crc32
from dlrm.kernels.text_library import ColumnKind

BLOCK_BYTES = 8 << 20


def read_delimited(
    files: Sequence[Path], dialect: Dialect, **options: Any
) -> Iterator[Chunk]:
    """Yield the rows of ``delimited_pieces``, parsed ahead on a thread.

    Raises:
        DataError: A file cannot be read, a column is missing, or, unless they are
            skipped, a row is not sound: file, line and column are named.
    """
    pieces = delimited_pieces(files, dialect, **options)
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
    kinds: Mapping[str, ColumnKind] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[DelimitedPiece]:
    """Yield all rows of ``files``, cut into pieces but not yet parsed.

    ``columns`` are those to keep, in that order, all of the first file's where None;
    ``optional`` ones follow where the files have them. ``keys`` are the settings that
    name columns. Every file's header is checked before the first row is read.
    ``splits`` tags files. Columns are strings, but those that ``kinds`` names may be
    float64 with NaN, or int32 codes of a dictionary, where that is the faster way.

    Raises:
        DataError: A file cannot be read, or a column is missing.
    """
    headers = check_headers(files, dialect, columns, keys=keys)
    found = headers[0].names
    wanted = tuple(columns if columns is not None else found)
    wanted += tuple(name for name in optional if name in found)
    size, done = total_bytes(files), 0
    for path, header in zip(files, headers, strict=True):
        parser = BlockParser(
            str(path),
            header.names,
            wanted,
            dialect,
            bad_rows,
            (splits or {}).get(path),
            kinds or {},
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

    parser: BlockParser
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
        return f"{self.block.first_line}:{crc32(self.block.data)}"


def _first_row_byte(path: Path, dialect: Dialect, header: Header) -> int | None:
    """Return where rows begin in a local file of plain UTF-8; None in any other."""
    is_local = type(path) is type(Path())
    if not is_local or codecs.lookup(dialect.encoding).name != "utf-8":
        return None
    magic = read_magic(path)
    if magic.startswith(GZIP_MAGIC):
        return None
    return header.num_bytes + (len(UTF8_BOM) if magic.startswith(UTF8_BOM) else 0)


def _read_piece(
    parser: BlockParser,
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
