"""Which setting needs which raw column, and what to say where a column is missing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from dlrm.config.data import DataConfig, Split
from dlrm.config.errors import DataError
from dlrm.data.columns.shown import listed
from dlrm.data.sources.chunk import Chunk


def check_columns(
    chunk: Chunk,
    data: DataConfig,
    keep: Sequence[str],
    *,
    with_labels: bool,
    with_split: bool,
) -> None:
    """Refuse a chunk that lacks a column.

    Raises:
        DataError: The column, the setting that names it and the nearest name there is.
    """
    found = chunk.table.column_names
    for key, column in _needs(data, keep, with_labels, with_split):
        if column in found:
            continue
        near = difflib.get_close_matches(column, found, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"{chunk.file} must have the column {column!r}, which {key} names, but it "
            f"has only {listed(found) or 'none'}. {hint}Set {key} to a "
            f"column that is there."
        )


def _needs(
    data: DataConfig, keep: Sequence[str], with_labels: bool, with_split: bool
) -> Iterator[tuple[str, str]]:
    if with_labels:
        yield "data.label", data.label
        if data.weight_column is not None:
            yield "data.weight_column", data.weight_column
    if data.keep_rate_column is not None:
        yield "data.keep_rate_column", data.keep_rate_column
    if with_split and data.split is Split.column and data.split_column is not None:
        yield "data.split_column", data.split_column
    if with_split and data.split is Split.leave_last and data.group_column is not None:
        yield "data.group_column", data.group_column
    by_time = data.split in (Split.time, Split.leave_last)
    if with_split and by_time and data.time_column is not None:
        yield "data.time_column", data.time_column
    for name, dense in data.dense_features.items():
        yield f"data.dense_features.{name}.column", dense.column or name
    for name, sparse in data.sparse_features.items():
        yield f"data.sparse_features.{name}.column", sparse.column or name
        if sparse.weight_column is not None:
            yield f"data.sparse_features.{name}.weight_column", sparse.weight_column
    named = {data.id_column: "id", data.group_column: "group", data.time_column: "time"}
    for column in keep:
        role = named.get(column)
        yield (f"data.{role}_column" if role else "data.keep"), column
