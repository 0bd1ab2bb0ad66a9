"""Write a stream of Arrow tables to the file a user named, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from dlrm.commands.arguments import check_folder_of
from dlrm.config.errors import ConfigError

_SUFFIXES = (".csv", ".csv.gz", ".parquet")


def check_target(path: Path) -> None:
    """Refuse a file name whose format is unknown, or a folder that does not exist.

    Raises:
        ConfigError: The name ends in none of .csv, .csv.gz and .parquet.
    """
    if not path.name.endswith(_SUFFIXES):
        raise ConfigError(
            f"output must end in {', '.join(_SUFFIXES)}, but it is '{path}'."
        )
    check_folder_of(path)


def write_tables(path: Path, tables: Iterable[pa.Table]) -> int:
    """Write all tables into one file and return the number of rows."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    num_rows = 0
    try:
        with pa.output_stream(aside, compression=_compression(path)) as sink:
            writer = None
            for table in tables:
                writer = writer or _open_writer(path, sink, table.schema)
                writer.write_table(table)
                num_rows += table.num_rows
            if writer is not None:
                writer.close()
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return num_rows


def _compression(path: Path) -> str | None:
    return "gzip" if path.name.endswith(".gz") else None


def _open_writer(
    path: Path, sink: pa.NativeFile, schema: pa.Schema
) -> pa.parquet.ParquetWriter | pa.csv.CSVWriter:
    if path.name.endswith(".parquet"):
        return pa.parquet.ParquetWriter(sink, schema)
    return pa.csv.CSVWriter(sink, schema)
