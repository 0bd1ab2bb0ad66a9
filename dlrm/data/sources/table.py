"""The user's own CSV, TSV or Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dlrm.config.data import SPLITS, DataConfig, Split, TableSource
from dlrm.config.delimiters import delimiter_text
from dlrm.config.errors import ConfigError, DataError
from dlrm.data.background import in_background
from dlrm.data.sources.chunk import Chunk, Piece, ReadChunk
from dlrm.data.sources.delimited import delimited_pieces
from dlrm.data.sources.dialect import Dialect
from dlrm.data.sources.files import (
    PARQUET_MAGIC,
    file_identity,
    missing_file,
    natural_order,
    read_magic,
    resolve_files,
)
from dlrm.data.sources.needed import column_kinds, needed_columns
from dlrm.data.sources.parquet import read_parquet
from dlrm.data.sources.remote import is_remote


class TableFiles:
    """Files of one table; only the columns that are needed are read."""

    def __init__(self, data: DataConfig, *, with_labels: bool) -> None:
        """Find the files.

        Raises:
            ConfigError: ``data.files`` is at odds with itself.
            DataError: A file is missing, or Parquet and text files are mixed.
        """
        self._data = data
        self._needed = needed_columns(data, with_labels=with_labels)
        self._splits: dict[Path, str] = {}
        if data.split is Split.files:
            self._splits = files_by_split(data)
            self._files = list(self._splits)
        else:
            self._files = resolve_files(data.source)
        self._is_parquet = all_parquet(self._files)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, file after file.

        Raises:
            DataError: A file cannot be read as the config says.
        """
        if self._is_parquet:
            return read_parquet(self._files, needed=self._needed, splits=self._splits)
        pieces = self._delimited_pieces()
        return in_background(chunk for piece in pieces for chunk in piece.chunks())

    def pieces(self) -> Iterator[Piece]:
        """Yield all rows cut into pieces; those of text are not yet parsed."""
        if self._is_parquet:
            return (ReadChunk(chunk) for chunk in self.chunks())
        return self._delimited_pieces()

    def _delimited_pieces(self) -> Iterator[Piece]:
        return delimited_pieces(
            self._files,
            table_dialect(self._data.table or TableSource()),
            columns=self._needed.required,
            optional=self._needed.optional,
            keys=self._needed.keys,
            bad_rows=self._data.bad_rows,
            kinds=column_kinds(self._data),
            splits=self._splits,
        )

    def identity(self) -> dict[str, Any]:
        """Return every file's identity and split."""
        return {
            "files": [
                {**file_identity(path), "split": self._splits.get(path)}
                for path in self._files
            ]
        }


def table_dialect(table: TableSource) -> Dialect:
    """Translate the ``data.table`` section."""
    names = table.column_names
    return Dialect(
        separator=delimiter_text(table.separator, key="data.table.separator"),
        quoting=table.quoting,
        encoding=table.encoding,
        null_values=tuple(table.null_values),
        column_names=None if names is None else tuple(names),
    )


def all_parquet(files: Sequence[Path]) -> bool:
    """Say whether the files are Parquet, going by their first bytes.

    Raises:
        DataError: Some are and some are not.
    """
    parquet = [path for path in files if read_magic(path).startswith(PARQUET_MAGIC)]
    if parquet and len(parquet) < len(files):
        other = next(path for path in files if path not in parquet)
        raise DataError(
            f"data.source must name files of one format, but {parquet[0]} is Parquet "
            f"and {other} is text. Name those you want, perhaps as a glob: *.parquet"
        )
    return bool(parquet)


def files_by_split(data: DataConfig) -> dict[Path, str]:
    """Resolve ``data.files``, relative to ``data.source`` where that is set."""
    remote = data.source if data.source and is_remote(data.source) else None
    folder = Path(data.source).expanduser() if data.source and not remote else None
    if folder is not None and not folder.is_dir():
        if not folder.exists():
            raise missing_file(folder, key="data.source")
        raise ConfigError(
            "data.source must be the folder of data.files where data.split=files, but "
            f"it is the file {folder}. Name its folder, or set data.source=null where "
            "data.files has whole paths."
        )
    splits: dict[Path, str] = {}
    for split, names in data.files.items():
        for name in names:
            source = name if folder is None else str(folder / name)
            if remote and not is_remote(name):
                source = f"{remote.rstrip('/')}/{name}"
            for path in resolve_files(source, key=f"data.files.{split}"):
                if splits.setdefault(path, split) != split:
                    raise ConfigError(
                        f"data.files must list each file under one split, but {path} "
                        f"stands under {splits[path]} and {split}. Leave one out."
                    )
    return dict(sorted(splits.items(), key=lambda item: _split_order(*item)))


def _split_order(
    path: Path, split: str
) -> tuple[int, tuple[str, list[tuple[int, int, str]]]]:
    return SPLITS.index(split), natural_order(path)
