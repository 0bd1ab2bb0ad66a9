"""A run's model over rows: a split of its dataset, or raw rows it has never seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import torch
from torch import nn

from dlrm.config.data import BadRows, DataConfig, SourceFormat, Split, TableSource
from dlrm.config.delimiters import DELIMITERS
from dlrm.config.errors import ConfigError, DataError
from dlrm.data.loading.collate import encoded_batches
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.preparation.prepare import iter_encoded
from dlrm.data.sources import open_source
from dlrm.data.storage.dataset import Dataset
from dlrm.data.transforms.fitted import FittedTransforms
from dlrm.data.transforms.outside_ids import OutsideIds
from dlrm.distributed.device import choose_device
from dlrm.evaluation.judge import Found, Judge, build_judge
from dlrm.row_names import watched
from dlrm.run import Run, load_model

RawRows: TypeAlias = str | Path | pd.DataFrame
_BATCH_SIZE = 8192
_MAX_LOGITS = 1 << 24


@dataclass(frozen=True, slots=True)
class Scored:
    """Predictions and, row-aligned, where each row came from and its kept columns."""

    predictions: Found
    side: pa.Table


def score_split(run: Run, dataset: Dataset, *, split: str, checkpoint: Path) -> Scored:
    """Score one split of the run's dataset.

    Raises:
        ConfigError: There is no such split, or it has no rows.
    """
    sizes = {name: found.num_rows for name, found in dataset.schema.splits.items()}
    if not sizes.get(split):
        found = ", ".join(f"{name} ({rows:,} rows)" for name, rows in sizes.items())
        raise ConfigError(
            f"split must name a split with rows, but '{split}' is none: the dataset "
            f"has {found}."
        )
    model, device = _load(run, checkpoint)
    loader = BatchLoader(
        dataset.split(split),
        run.schema,
        order=RowOrder(sizes[split], seed=0, shuffle=False, max_rows_in_memory=1),
        global_batch_size=_batch_size(run),
    )
    with watched(loader.batches(0), dataset, split) as batches:
        predictions = judge_of(run).collect(model, batches, device)
    return Scored(predictions, dataset.side(split))


def _load(run: Run, checkpoint: Path) -> tuple[nn.Module, torch.device]:
    config = run.config.trainer
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = choose_device(config.device)
    return load_model(run, checkpoint=checkpoint, device=device), device


def score_rows(
    run: Run,
    rows: RawRows,
    *,
    checkpoint: Path,
    with_labels: bool,
    outside: OutsideIds | None = None,
) -> Iterator[Scored]:
    """Apply the run's fitted transforms to raw rows and score them, part after part.

    Row ids count from 0 over all parts. Bad rows are errors, whatever the run's policy:
    the result is row for row with the input. ``outside`` counts ids that training
    never saw.

    Raises:
        UserError: The input cannot be read as the run's data was.
    """
    data = input_config(run.config.data, rows)
    frame = rows if isinstance(rows, pd.DataFrame) else None
    # With labels a table would need its group, time and kept columns too, which new
    # rows may lack; label and weights are missed when the rows are read.
    required = with_labels and data.format is not SourceFormat.table
    source = open_source(data, frame, with_labels=required)
    transforms = FittedTransforms.load(run.folder)
    model, device = _load(run, checkpoint)
    judge = judge_of(run)
    observe = None if outside is None else outside.observe
    start = 0
    parts = iter_encoded(data, transforms, source, with_labels, observe)
    for encoded, side in parts:
        batches = encoded_batches([encoded], run.schema, _batch_size(run))
        found = judge.collect(model, batches, device)
        found = dataclasses.replace(found, row_ids=found.row_ids + start)
        yield Scored(found, side)
        start += len(encoded)
    if start == 0:
        name = rows if frame is None else "the DataFrame"
        raise DataError(f"input must have rows, but {name} has none.")


def score_table(
    run: Run, rows: RawRows, *, checkpoint: Path, outside: OutsideIds | None = None
) -> Iterator[pa.Table]:
    """Score rows that need no label; yield tables of row, id and the judge's scores."""
    id_column, judge = run.config.data.id_column, judge_of(run)
    for part in score_rows(
        run, rows, checkpoint=checkpoint, with_labels=False, outside=outside
    ):
        found = part.predictions
        columns: dict[str, Any] = {"row": found.row_ids}
        if id_column is not None:
            columns[id_column] = part.side[id_column]
        yield pa.table(columns | judge.scores(found))


def judge_of(run: Run) -> Judge:
    """Return the judge of a run's task."""
    return build_judge(run.config.task, run.schema, run.folder)


def _batch_size(run: Run) -> int:
    """Return the rows whose logits are held at a time."""
    return max(1, min(_BATCH_SIZE, _MAX_LOGITS // run.schema.num_outputs))


def concatenate_scored(parts: list[Scored], judge: Judge) -> Scored:
    """Return all parts as one, in order."""
    return Scored(
        judge.concatenate([part.predictions for part in parts]),
        # A column without any value in one part has no type of its own there.
        pa.concat_tables([part.side for part in parts], promote_options="permissive"),
    )


def input_config(data: DataConfig, rows: RawRows) -> DataConfig:
    """Return the run's data section, pointed at other rows.

    Criteo's and tables' files are read as the training files were. MovieLens' files and
    the synthetic log join or generate their rows, so new ones come as a plain table
    with the same columns.
    """
    table, form = data.table, data.format
    if isinstance(rows, pd.DataFrame) or form in (
        SourceFormat.movielens,
        SourceFormat.synthetic,
    ):
        form = SourceFormat.table
        table = table or TableSource(separator=_separator(rows))
    return dataclasses.replace(
        data,
        format=form,
        source=None if isinstance(rows, pd.DataFrame) else str(rows),
        files={},
        split=Split.source,
        split_column=None,
        bad_rows=BadRows.error,
        table=table,
        movielens=None,
        synthetic=None,
        fasttext=data.fasttext if form is SourceFormat.fasttext else None,
    )


def _separator(rows: RawRows) -> str:
    names = {text: name for name, text in DELIMITERS.items()}
    return names["\t"] if str(rows).removesuffix(".gz").endswith(".tsv") else names[","]
