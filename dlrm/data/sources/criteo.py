"""Criteo's click logs as published: the Kaggle sample and the terabyte of 24 days."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm.config.data import CriteoSource, DataConfig, SourceFormat, Split
from dlrm.config.errors import ConfigError, DataError
from dlrm.data.background import in_background
from dlrm.data.sources.chunk import Chunk
from dlrm.data.sources.criteo_multi_hot import BAG_SIZES, to_bags
from dlrm.data.sources.delimited import (
    BLOCK_BYTES,
    DelimitedPiece,
    delimited_pieces,
)
from dlrm.data.sources.dialect import Dialect
from dlrm.data.sources.files import InputFile, file_identity, resolve_files
from dlrm.data.sources.headers import missing_columns, read_header
from dlrm.data.sources.needed import column_kinds, needed_columns

COUNTS = tuple(f"I{number}" for number in range(1, 14))
IDS = tuple(f"C{number}" for number in range(1, 27))
_LABELLED = ("label", *COUNTS, *IDS)
_UNLABELLED = (*COUNTS, *IDS)
_DAY = re.compile(r"day_(\d+)")


class CriteoLog:
    """Columns ``label``, ``I1`` to ``I13`` (null where empty), ``C1`` to ``C26``.

    The files have no header, tabs between the columns and hexadecimal ids. The terabyte
    is split by day as MLPerf does: the days before the last one train; the last one's
    first half, rounded up, is for validation, the rest for the test.
    """

    def __init__(self, data: DataConfig, *, with_labels: bool) -> None:
        """Find the files and look at their first lines.

        Raises:
            ConfigError: Multi-hot bags are asked for, but a feature takes one id.
            DataError: The files are not Criteo's, or have no labels where they must.
        """
        self._data = data
        self._options = data.criteo or CriteoSource()
        self._files = resolve_files(data.source)
        by_day = data.format is SourceFormat.criteo_1tb and data.split is Split.source
        self._held_out: Path | None = None
        if by_day and with_labels:
            self._files = sorted(self._files, key=_day)
            self._held_out = _last_day(self._files)
        names = _column_names(self._files[0], with_labels=with_labels)
        needed = needed_columns(data, with_labels=with_labels)
        missing = [name for name in needed.required if name not in names]
        if missing:
            file = str(self._files[0])
            raise missing_columns(missing, names, file=file, keys=needed.keys)
        self._columns = needed.present(names)
        self._dialect = Dialect(separator="\t", quoting=False, column_names=names)
        if self._options.multi_hot:
            _check_multi_hot(data)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, day after day.

        Raises:
            DataError: A row is not sound.
        """
        yield from in_background(
            chunk for piece in self.pieces() for chunk in piece.chunks()
        )

    def pieces(self) -> Iterator[CriteoPiece]:
        """Yield all rows cut into pieces but not yet parsed, day after day."""
        options = self._options
        held_out, middle = None, 0
        if self._held_out is not None:
            held_out = str(self._held_out)
            middle = (_count_lines(self._held_out) + 1) // 2
        pieces = delimited_pieces(
            self._files,
            self._dialect,
            columns=self._columns,
            bad_rows=self._data.bad_rows,
            kinds=column_kinds(self._data),
            # A row of bags has 214 ids in place of 26.
            block_bytes=BLOCK_BYTES >> 3 if options.multi_hot else BLOCK_BYTES,
        )
        for piece in pieces:
            yield CriteoPiece(piece, options, held_out, middle)

    def identity(self) -> dict[str, Any]:
        """Return the files' identities."""
        return {"files": [file_identity(path) for path in self._files]}


@dataclass(frozen=True, slots=True)
class CriteoPiece:
    """Some rows of one day as text, which any process can parse."""

    piece: DelimitedPiece
    options: CriteoSource
    held_out: str | None
    """The last day's file where days are split."""
    middle: int
    """Last line of it that is for validation."""

    def chunks(self) -> Iterator[Chunk]:
        """Parse the rows; a chunk is of one split.

        Raises:
            DataError: A row is not sound, unless such rows are skipped.
        """
        for whole in self.piece.chunks():
            for chunk in self._split_by_day(whole):
                yield self._with_bags(chunk) if self.options.multi_hot else chunk

    def digest(self) -> str:
        """Return text that changes with the rows and their place."""
        return self.piece.digest()

    def _split_by_day(self, chunk: Chunk) -> Iterator[Chunk]:
        if self.held_out is None:
            yield chunk
            return
        if chunk.file != self.held_out:
            yield dataclasses.replace(chunk, split="train")
            return
        num_valid = int((chunk.rows <= self.middle).sum())
        if num_valid or chunk.quarantined:
            yield _part(chunk, 0, num_valid, "valid")
        if num_valid < len(chunk.rows):
            yield _part(chunk, num_valid, len(chunk.rows), "test")

    def _with_bags(self, chunk: Chunk) -> Chunk:
        table, seed = chunk.table, self.options.multi_hot_seed
        for name, size in zip(IDS, BAG_SIZES, strict=True):
            if name in table.column_names:
                bags = to_bags(table[name], size=size, seed=seed)
                table = table.set_column(table.column_names.index(name), name, bags)
        return dataclasses.replace(chunk, table=table)


def _part(chunk: Chunk, start: int, stop: int, split: str) -> Chunk:
    return dataclasses.replace(
        chunk,
        table=chunk.table.slice(start, stop - start),
        rows=chunk.rows[start:stop],
        split=split,
        quarantined=chunk.quarantined if split == "valid" else (),
    )


def _column_names(path: Path, *, with_labels: bool) -> tuple[str, ...]:
    header = read_header(path, Dialect(quoting=False, separator="\t", column_names=()))
    width = header.text.count("\t") + 1
    if width == len(_LABELLED):
        return _LABELLED
    if width == len(_UNLABELLED):
        if with_labels:
            raise DataError(
                f"{path} must have 40 columns, the label first, but it has the 39 of "
                "Criteo's test.txt, which has no labels. It can only be predicted."
            )
        return _UNLABELLED
    raise DataError(
        f"{path} must have 40 columns separated by tabs (a label, 13 counts, 26 ids), "
        f"but its first line has {width}. For another layout use data.format=table."
    )


def _last_day(files: list[Path]) -> Path:
    if len(files) < 2:
        raise DataError(
            f"data.source must name two days or more where data.split=source, as the "
            f"last one is held out, but there is only {files[0]}. Add a day, or choose "
            f"data.split=random."
        )
    return files[-1]


def _day(path: Path) -> int:
    found = _DAY.search(path.name)
    if found is None:
        raise DataError(
            f"data.source must name files day_0 to day_23 where data.split=source, but "
            f"{path} is none. Choose data.split=random for other files."
        )
    return int(found[1])


def _count_lines(path: Path) -> int:
    """Count lines, in a pass over the file: nothing else says where half is."""
    count, last = 0, b"\n"
    with InputFile(path) as file:
        while data := file.read(BLOCK_BYTES):
            count, last = count + data.count(b"\n"), data[-1:]
    return count + (last != b"\n")


def _check_multi_hot(data: DataConfig) -> None:
    for name, feature in data.sparse_features.items():
        if (feature.column or name) in IDS and not feature.multi_hot:
            raise ConfigError(
                f"data.sparse_features.{name}.multi_hot must be true where "
                "data.criteo.multi_hot is, but it is false. Choose "
                "data=criteo_1tb_multi_hot, which sets it for all features."
            )
