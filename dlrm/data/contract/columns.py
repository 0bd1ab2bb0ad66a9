"""Raw columns of files and frames by kind, and how they differ from training's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from dlrm.config.data import DataConfig, SourceFormat, Split, TableSource
from dlrm.config.errors import UserError
from dlrm.data.contract.measuring import Measurement

if TYPE_CHECKING:
    import pandas as pd

ANY = "any"
"""The kind of columns of text files, which hold whatever their text says."""


def raw_columns(
    data: DataConfig, frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None
) -> dict[str, str]:
    """Return the columns that rows come with, by kind.

    There are none where the layout is fixed, or where the rows cannot be looked at:
    reading them says why.
    """
    if frame is not None:
        frames = list(frame.values()) if isinstance(frame, Mapping) else [frame]
        return _of_frame(frames[0]) if frames else {}
    if data.format is not SourceFormat.table:
        return {}
    try:
        return _of_files(data)
    except (UserError, OSError, pa.ArrowException):
        return {}


def measure_columns(
    known: Mapping[str, str],
    found: Mapping[str, str],
    data: DataConfig,
    *,
    name: str,
) -> Iterator[Measurement]:
    """Yield extra columns of new rows, and those of another kind."""
    if not known or not found:
        return
    for column, kind in found.items():
        if column not in known:
            yield Measurement(kind="extra_column", value=1.0, feature=column, rows=name)
        elif ANY not in (kind, known[column]) and kind != known[column]:
            yield Measurement(
                kind="column_type",
                value=1.0,
                feature=column,
                rows=name,
                detail=f"{kind}, in training {known[column]}",
            )


def _of_files(data: DataConfig) -> dict[str, str]:
    # Imported late: these read files, which the checks of frames never do.
    from dlrm.data.sources.files import PARQUET_MAGIC, read_magic, resolve_files
    from dlrm.data.sources.headers import read_header
    from dlrm.data.sources.table import files_by_split, table_dialect

    first: Path
    if data.split is Split.files:
        first = next(iter(files_by_split(data)))
    else:
        first = resolve_files(data.source)[0]
    if read_magic(first).startswith(PARQUET_MAGIC):
        with first.open("rb") as opened:
            return _of_schema(pq.read_schema(opened))
    header = read_header(first, table_dialect(data.table or TableSource()))
    return dict.fromkeys(header.names, ANY)


def _of_frame(frame: pd.DataFrame) -> dict[str, str]:
    try:
        schema = pa.Schema.from_pandas(frame.head(1000), preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError):
        return {str(column): ANY for column in frame.columns}
    return _of_schema(schema)


def _of_schema(schema: pa.Schema) -> dict[str, str]:
    return {field.name: _kind(field.type) for field in schema}


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "numbers"
    if pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        return ANY
    if pa.types.is_temporal(kind):
        return "times"
    return "lists" if pa.types.is_nested(kind) else "text"
