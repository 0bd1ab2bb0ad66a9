"""pandas DataFrames as chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dlrm.config.data import SPLITS, DataConfig, Split
from dlrm.config.errors import ConfigError, DataError
from dlrm.data.columns.shown import listed
from dlrm.data.sources.chunk import Chunk
from dlrm.data.sources.headers import missing_columns
from dlrm.data.sources.needed import needed_columns

FRAME_NAME = "<DataFrame>"
_ROWS_PER_CHUNK = 65_536


class Frames:
    """One DataFrame, or one for each split."""

    def __init__(
        self,
        data: DataConfig,
        frame: pd.DataFrame | Mapping[str, pd.DataFrame],
        *,
        with_labels: bool,
    ) -> None:
        """Check the frames' columns.

        Raises:
            ConfigError: Frames come by split, but ``data.split`` deals them otherwise.
            DataError: A needed column is missing, or a split's name is unknown.
        """
        needed = needed_columns(data, with_labels=with_labels)
        self._frames: list[tuple[str | None, pd.DataFrame]] = []
        if isinstance(frame, pd.DataFrame):
            self._frames.append((None, frame))
        else:
            _check_split(data)
            self._frames += frame.items()
        self._columns: list[list[str]] = []
        for split, part in self._frames:
            name = FRAME_NAME if split is None else f"{FRAME_NAME} {split!r}"
            if split is not None and split not in SPLITS:
                raise DataError(
                    f"DataFrames must be given for {', '.join(SPLITS)}, but one is "
                    f"for {split!r}."
                )
            found = [str(column) for column in part.columns]
            missing = [column for column in needed.required if column not in found]
            if missing:
                raise missing_columns(missing, found, file=name, keys=needed.keys)
            columns = needed.present(found)
            _refuse_duplicates(columns, found, name)
            self._columns.append(columns)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows; a row's number counts from 1 in its own frame.

        Raises:
            DataError: A column mixes types that no one Arrow type holds.
        """
        total = max(1, sum(len(frame) for _, frame in self._frames))
        done = 0
        for (split, frame), columns in zip(self._frames, self._columns, strict=True):
            name = FRAME_NAME if split is None else f"{FRAME_NAME} {split!r}"
            for start in range(0, len(frame), _ROWS_PER_CHUNK):
                part = frame.iloc[start : start + _ROWS_PER_CHUNK]
                table = _to_table(part, columns, name)
                rows = np.arange(start + 1, start + 1 + len(part), dtype=np.int64)
                done += len(part)
                yield Chunk(table, name, rows, split, done / total)

    def identity(self) -> dict[str, Any]:
        """Return a hash of all needed values."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(f"{chunk.split}:{chunk.table.schema}".encode())
            for batch in chunk.table.to_batches():
                digest.update(batch.serialize())
        return {"frames": digest.hexdigest()}


def _check_split(data: DataConfig) -> None:
    if data.split is not Split.source:
        raise ConfigError(
            f"data.split must be source where DataFrames come by split, but it is "
            f"{data.split.value}. Set data.split=source, or give one DataFrame."
        )


def _refuse_duplicates(columns: list[str], found: list[str], name: str) -> None:
    twice = [column for column in columns if found.count(column) > 1]
    if twice:
        raise DataError(
            f"{name} must have each needed column once, but it has "
            f"{listed(twice)} more than once. Rename one."
        )


def _to_table(frame: pd.DataFrame, columns: list[str], name: str) -> pa.Table:
    by_name = {str(column): column for column in frame.columns}
    arrays = []
    for column in columns:
        values = frame[by_name[column]]
        try:
            array = pa.array(values, from_pandas=True)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            # Among them integers beyond 64 bits and text that is no Unicode.
            raise DataError(
                f"{name} must hold values of one kind in each column, but column "
                f"{column!r} cannot be read: {error}."
            ) from error
        arrays.append(array)
    return pa.table(arrays, names=columns)
