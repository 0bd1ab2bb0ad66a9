"""Raw chunks and configs for the tests of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig, SourceFormat
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.data.columns.typed import typed_columns
from dlrm.data.sources.chunk import BadRow, Chunk


def chunk(
    columns: dict[str, Any],
    *,
    file: str = "clicks.csv",
    first_row: int = 2,
    split: str | None = None,
    progress: float = 1.0,
    quarantined: tuple[BadRow, ...] = (),
) -> Chunk:
    table = pa.table(columns)
    rows = np.arange(first_row, first_row + table.num_rows)
    return Chunk(table, file, rows, split, progress, quarantined)


def config(
    *,
    dense: dict[str, DenseFeature] | None = None,
    sparse: dict[str, SparseFeature] | None = None,
    **settings: Any,
) -> DataConfig:
    return DataConfig(
        name="clicks",
        format=SourceFormat.table,
        dense_features=dense or {},
        sparse_features=sparse or {},
        **settings,
    )


def typed(data: DataConfig, columns: dict[str, Any], **place: Any) -> pa.Table:
    return typed_columns(chunk(columns, **place), data).table


@dataclass
class ListSource:
    """Chunks from memory; ``fail_after`` raises instead of the next one."""

    items: list[Chunk]
    name: str = "list"
    fail_after: int | None = None
    num_reads: int = field(default=0)

    def chunks(self) -> Iterator[Chunk]:
        self.num_reads += 1
        for index, item in enumerate(self.items):
            if index == self.fail_after:
                raise RuntimeError("the reader broke")
            yield item

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}


def write_table(folder: Path, text: str, name: str = "clicks.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def number(cell: str | float | None) -> float | None:
    """Return a raw cell of a column of numbers, text or parsed; None where missing."""
    return None if cell is None or cell != cell else float(cell)
