"""The two ways in for raw rows: as a prepared dataset, or encoded on the fly."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.data.columns.typed import typed_columns
from dlrm.data.preparation.claim import claimed, remove_abandoned
from dlrm.data.preparation.fingerprint import fingerprint_of
from dlrm.data.preparation.kept_columns import raw_columns, side_table
from dlrm.data.preparation.passes import Preparation, is_whole, publish
from dlrm.data.preparation.quarantine import QUARANTINE_FILE
from dlrm.data.preparation.summary import PrepareSummary, describe_dataset
from dlrm.data.sources import open_source
from dlrm.data.sources.chunk import Source
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.transforms.fitted import FittedTransforms, Observer
from dlrm.data.transforms.fitting import TransformFitter

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["describe_dataset", "iter_encoded", "prepare_dataset", "prepare_source"]


def prepare_dataset(
    data: DataConfig,
    *,
    frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
) -> Path:
    """Return the folder of the prepared dataset, made first unless it exists whole.

    ``frame`` stands for the raw files: one table, or one a split.

    Raises:
        UserError: The raw rows do not fit the config.
        OSError: The disk is full, or cannot be written.
    """
    if frame is not None:
        data = dataclasses.replace(data, source=None)
    return prepare_source(data, open_source(data, frame))


def prepare_source(data: DataConfig, source: Source) -> Path:
    """Do what ``prepare_dataset`` does, for rows from ``source``.

    Nothing is left behind by a preparation that fails. One that runs elsewhere for the
    same dataset is waited for, and its result used.
    """
    fitter = TransformFitter(data)
    fingerprint = fingerprint_of(data, source.identity())
    name = f"{data.name}-{fingerprint[:12]}"
    folder = Path(data.prepared) / name
    if is_whole(folder):
        return folder
    work = Path(data.prepared) / f".tmp-{name}"
    with claimed(work):
        if not is_whole(folder, explain=True):
            remove_abandoned(work.parent, ".tmp-*")
            made = Preparation(data, source, fitter, fingerprint, work).run()
            publish(made, folder)
            _report_bad_rows(folder)
    return folder


def _report_bad_rows(folder: Path) -> None:
    num_bad = PrepareSummary.load(folder).num_quarantined
    if num_bad:
        rows = "row" if num_bad == 1 else "rows"
        print(
            f"Left out {num_bad:,} bad {rows}: {folder / QUARANTINE_FILE} lists them.",
            file=sys.stderr,
        )


def iter_encoded(
    data: DataConfig,
    transforms: FittedTransforms,
    source: Source,
    with_labels: bool,
    observe: Observer | None = None,
) -> Iterator[tuple[EncodedRows, pa.Table]]:
    """Yield new raw rows under fitted transforms, each part with its side columns.

    Side columns are ``__file``, ``__row`` and those columns that the rows have of the
    dataset's kept ones and of ``data.keep``.
    ``observe``, where given, is told about the rows' ids.

    Raises:
        DataError: A row cannot be read as ``data`` says.
    """
    raw = raw_columns(data)
    kept = tuple(dict.fromkeys([*transforms.schema.kept_columns, *raw]))
    for chunk in source.chunks():
        found = chunk.table.column_names
        typed = typed_columns(
            chunk,
            data,
            keep=[column for column in raw if column in found],
            with_labels=with_labels,
            with_split=False,
        ).table
        side = side_table(typed, data, kept)
        yield transforms.encode(typed, observe), side
