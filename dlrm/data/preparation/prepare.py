"""The two ways in for raw rows: as a prepared dataset, or encoded on the fly."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dlrm import __version__
from dlrm.config.data import DataConfig
from dlrm.data.columns.typed import typed_columns
from dlrm.data.contract.columns import raw_columns as raw_columns_by_kind
from dlrm.data.contract.enforcement import InputChecks, enforce
from dlrm.data.preparation.blocks import BlockStore, remove_unfinished
from dlrm.data.preparation.claim import (
    can_be_gone_on_from,
    claimed,
    remove_abandoned,
)
from dlrm.data.preparation.fingerprint import fingerprint_of
from dlrm.data.preparation.kept_columns import raw_columns, side_table
from dlrm.data.preparation.nursery import LARGE_BYTES, Nursery
from dlrm.data.preparation.passes import BLOCKS_FOLDER, Preparation
from dlrm.data.preparation.publishing import is_whole, publish
from dlrm.data.preparation.quarantine import QUARANTINE_FILE
from dlrm.data.preparation.summary import PrepareSummary, describe_dataset
from dlrm.data.sources import open_source
from dlrm.data.sources.chunk import Source
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.transforms.fitted import FittedTransforms, Observer

if TYPE_CHECKING:
    import pandas as pd

WORK_FORMAT = 3
"""Of what lies in a working folder."""
__all__ = [
    "describe_dataset",
    "existing_dataset",
    "iter_encoded",
    "prepare_dataset",
    "prepare_source",
]


def prepare_dataset(
    data: DataConfig,
    *,
    frame: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    nursery: Nursery | None = None,
) -> Path:
    """Return the folder of the prepared dataset, made first unless it exists whole.

    ``frame`` stands for the raw files: one table, or one a split. ``nursery`` are
    processes that are being started to share the work.

    Raises:
        UserError: The raw rows do not fit the config, or ``data.checks`` calls a
            finding about them an error; the dataset is kept.
        OSError: The disk is full, or cannot be written.
    """
    if frame is not None:
        data = dataclasses.replace(data, source=None)
    source = open_source(data, frame)
    columns = raw_columns_by_kind(data, frame)
    return prepare_source(data, source, columns=columns, nursery=nursery)


def prepare_source(
    data: DataConfig,
    source: Source,
    *,
    columns: dict[str, str] | None = None,
    nursery: Nursery | None = None,
) -> Path:
    """Do what ``prepare_dataset`` does, for rows from ``source``.

    ``columns`` are all that the source has, by kind, where that is known.

    Nothing is left behind by a preparation that fails. One that was killed or
    interrupted is gone on with. One that runs elsewhere for the same dataset is waited
    for, and its result used.
    """
    identity = source.identity()
    fingerprint = fingerprint_of(data, identity)
    folder = _folder(data, fingerprint)
    work = folder.with_name(f".tmp-{folder.name}")
    if is_whole(folder):
        # Of a process that was killed just after it had given the dataset its name.
        remove_abandoned(work.parent, work.name)
        enforce(folder, data)
        return folder
    content = f"{WORK_FORMAT} {__version__} {fingerprint}"
    with claimed(work, content=content) as goes_on:
        if not is_whole(folder, explain=True):
            _tidy(work, data.name, goes_on)
            made = Preparation(
                data,
                source,
                fingerprint,
                work,
                columns or {},
                is_large=_size_of(identity) > LARGE_BYTES,
                nursery=nursery,
            ).run()
            publish(made, folder)
            _report_bad_rows(folder)
    enforce(folder, data)
    return folder


def _size_of(identity: Mapping[str, Any]) -> int:
    """Sum up the sizes of the source's files, as far as they are known."""
    return sum(file.get("size") or 0 for file in identity.get("files", ()))


def existing_dataset(data: DataConfig, source: Source) -> Path | None:
    """Return the folder of the dataset that is there already, whole; None if none is.

    Raises:
        UserError: The source cannot be read.
    """
    folder = _folder(data, fingerprint_of(data, source.identity()))
    return folder if is_whole(folder) else None


def _folder(data: DataConfig, fingerprint: str) -> Path:
    return Path(data.prepared) / f"{data.name}-{fingerprint[:12]}"


def _tidy(work: Path, name: str, goes_on: bool) -> None:
    """Remove what dead processes left, and say what becomes of it.

    What other datasets can go on from stays; that of this one's other files or settings
    does not, as the last command says what is wanted.
    """
    older = remove_abandoned(work.parent, f".tmp-{name}-{'[0-9a-f]' * 12}")
    remove_abandoned(work.parent, ".tmp-*", but=can_be_gone_on_from)
    remove_unfinished(work / BLOCKS_FOLDER)
    num_finished = BlockStore(work / BLOCKS_FOLDER).count("") if goes_on else 0
    if num_finished:
        print(
            f"Going on: an earlier preparation was cut short after {num_finished:,} "
            f"pieces of work.",
            file=sys.stderr,
        )
    elif older:
        print(
            "Starting anew: raw files or settings changed since the earlier "
            "preparation that was cut short.",
            file=sys.stderr,
        )


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
    checks: InputChecks | None = None,
) -> Iterator[tuple[EncodedRows, pa.Table]]:
    """Yield new raw rows under fitted transforms, each part with its side columns.

    Side columns are ``__file``, ``__row`` and those columns that the rows have of the
    dataset's kept ones and of ``data.keep``.
    ``observe``, where given, is told about the rows' ids, and ``checks`` about all of
    them.

    Raises:
        DataError: A row cannot be read as ``data`` says.
    """
    raw = raw_columns(data)
    if checks is not None:
        observe = checks.watching(observe)
    kept = tuple(dict.fromkeys([*transforms.schema.kept_columns, *raw]))
    for chunk in source.chunks():
        if checks is not None:
            chunk = checks.filled(chunk)
        found = chunk.table.column_names
        typed = typed_columns(
            chunk,
            data,
            keep=[column for column in raw if column in found],
            with_labels=with_labels,
            with_split=False,
        ).table
        side = side_table(typed, data, kept)
        rows = transforms.encode(typed, observe)
        if checks is not None:
            checks.update(typed, rows)
        yield rows, side
