"""Vectors from a file as the first values of a table: ``tables.<table>.pretrained``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from dlrm.checkpoints.files import WEIGHT
from dlrm.config.errors import ConfigError, DataError
from dlrm.config.root import Config
from dlrm.config.table_options import TableOptions
from dlrm.config.tables import features_by_table
from dlrm.data.storage.vectors import VectorFile
from dlrm.data.transforms.row_matching import FittedTables
from dlrm.data.transforms.table_keys import TableKeys
from dlrm.distributed.job import ALONE, Job
from dlrm.embeddings.outline import TableOutline, table_outlines
from dlrm.embeddings.state import USES, TablePart, table_parts
from dlrm.models import model_config
from dlrm.run import Run


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far a file of vectors covers a table."""

    table: str
    path: str
    num_rows: int
    num_filled: int
    """Rows that got a vector; the others keep their initial values."""
    num_vectors: int
    num_without_row: int
    """Vectors whose key has no row."""
    frozen: bool

    def record(self) -> dict[str, Any]:
        """Return what the manifest keeps."""
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """Return the line for the user."""
        left = self.num_rows - self.num_filled
        return (
            f"vectors {self.table}: {self.num_filled:,} of {self.num_rows:,} rows from "
            f"{self.path}{', frozen' if self.frozen else ''}; {left:,} rows without a "
            f"vector; {self.num_without_row:,} of {self.num_vectors:,} keys without a "
            f"row"
        )


def check_pretrained(config: Config) -> None:
    """Read every file of vectors, for its errors, before the data are prepared.

    Raises:
        UserError: A file or column is missing, or its content does not fit.
    """
    width = model_config(config.model).embedding_dim
    features = features_by_table(config.data.sparse_features)
    for table, options in config.tables.items():
        if options.pretrained.path is not None:
            first = next(iter(features[table].values()))
            dim = first.embedding_dim or width
            VectorFile(options.pretrained, key=_key(table), dim=dim).check()


def fill_pretrained(run: Run, model: nn.Module, job: Job = ALONE) -> list[Coverage]:
    """Write the vectors of every table that has a file of them into the model.

    All processes of ``job`` call this; each fills its own parts of the tables, and all
    return the same.

    Raises:
        UserError: A file does not fit, or the model has no such table; on all
            processes.
    """
    if all(o.pretrained.path is None for o in run.schema.table_options.values()):
        return []
    outlines = table_outlines(model, job)
    return job.together(lambda: _fill_tables(run, table_parts(model), outlines))


def _fill_tables(
    run: Run, parts: list[TablePart], outlines: dict[str, TableOutline]
) -> list[Coverage]:
    found = []
    for table, options in run.schema.table_options.items():
        if options.pretrained.path is None:
            continue
        if table not in outlines:
            raise ConfigError(
                f"{_key(table)}.path must be set for a table of the model, but "
                f"model={run.config.model['name']} has none '{table}'. It has: "
                f"{', '.join(outlines)}."
            )
        outline = outlines[table]
        file = VectorFile(options.pretrained, key=_key(table), dim=outline.dim)
        rows = _rows_of(run, outline, file)
        counts = np.bincount(rows[rows >= 0], minlength=outline.num_rows)
        for part in parts:
            if part.table == table:
                _fill(part, file, rows, counts, options)
        found.append(
            Coverage(
                table=table,
                path=str(file.path),
                num_rows=outline.num_rows,
                num_filled=int((counts > 0).sum()),
                num_vectors=len(file),
                num_without_row=int((rows < 0).sum()),
                frozen=options.frozen,
            )
        )
    return found


def _fill(
    table: TablePart,
    file: VectorFile,
    rows: np.ndarray,
    counts: np.ndarray,
    options: TableOptions,
) -> None:
    """Fill a part with its rows and columns of the file's vectors.

    Args:
        table: The part.
        file: The vectors.
        rows: The table's row of each vector; -1 where it has none.
        counts: The vectors of each of the table's rows.
        options: The table's.
    """
    part, live = table.part, table.columns
    weight = live[WEIGHT]
    filled = torch.from_numpy(np.flatnonzero(counts[part.rows])).to(weight.device)
    # Keys that share a row, as hashes do, give it their mean.
    weight.index_fill_(0, filled, 0.0)
    for start, vectors in file.batches():
        own = rows[start : start + len(vectors)]
        known = (own >= part.rows.start) & (own < part.rows.stop)
        target = torch.from_numpy(own[known] - part.first_row).to(weight.device)
        given = vectors[known][:, part.columns]
        values = torch.from_numpy(given / counts[own[known], None]).to(weight)
        if not bool(torch.isfinite(values).all()):
            raise DataError(
                f"{file.key}.path must hold numbers that fit the table's "
                f"{weight.dtype}, but {file.path} holds larger ones. Scale them, "
                f"or set tables.{table.table}.dtype=float32."
            )
        weight.index_add_(0, target, values)
    if USES in live:
        # A row with a vector needs no lookups to count.
        live[USES].index_fill_(0, filled, options.admit_after)
    table.clear_padding()


def _rows_of(run: Run, table: TableOutline, file: VectorFile) -> np.ndarray:
    """Return the row of each vector of the file, int64; -1 where it has none."""
    num_rows = table.num_rows
    if file.keys is None:
        if len(file) != num_rows:
            raise DataError(
                f"{file.key}.path must hold one vector for each row of table "
                f"'{table.table}', in row order, but {file.path} holds {len(file):,} "
                f"and the table has {num_rows:,} rows. Give vectors under raw values "
                f"as Parquet instead."
            )
        return np.arange(num_rows, dtype=np.int64)
    fitted = FittedTables(run.folder, run.schema)
    keys: TableKeys = fitted.keys(table.table)
    rows = keys.rows_of(file.keys)
    raw = file.keys.is_valid().to_numpy(zero_copy_only=False)
    if raw.any() and not (rows[raw] >= 0).any():
        raise DataError(
            f"{file.key}.key_column must hold raw values of table '{table.table}', "
            f"but none of the {raw.sum():,} keys of {file.path} has a row there. They "
            f"begin with {_some(file.keys)}; the table's with {_some(keys.keys)}."
        )
    return rows


def _some(texts: Any) -> str:
    known = texts.slice(0, 1000).drop_null()[:3].to_pylist()
    return ", ".join(repr(text) for text in known) or "none that are known"


def _key(table: str) -> str:
    return f"tables.{table}.pretrained"
