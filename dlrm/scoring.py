"""A run's model over rows: a split of its dataset, or raw rows it has never seen.

The processes of a job score together, each its batches in turn; the first one gets the
result. Metrics and files are then the same as one process's, to the bit where tables
are not split by rows: sums of a bag's vectors from several processes may round
differently.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import torch
from torch import nn

from dlrm.config.data import BadRows, DataConfig, SourceFormat, Split, TableSource
from dlrm.config.delimiters import DELIMITERS
from dlrm.config.errors import ConfigError, DataError
from dlrm.data.batch import Batch
from dlrm.data.contract.columns import raw_columns
from dlrm.data.contract.enforcement import InputChecks
from dlrm.data.loading.whole_batches import WholeBatches
from dlrm.data.preparation.prepare import iter_encoded
from dlrm.data.sources import open_source
from dlrm.data.storage.dataset import Dataset
from dlrm.data.transforms.fitted import FittedTransforms
from dlrm.data.transforms.outside_ids import OutsideIds
from dlrm.distributed.device import choose_device
from dlrm.distributed.job import ALONE, Job
from dlrm.distributed.lockstep import alike, in_lockstep
from dlrm.distributed.watch import Phase
from dlrm.evaluation.calibrated import Correction, describe_recalibration
from dlrm.evaluation.gathering import collect_over_ranks
from dlrm.evaluation.judge import Found, Judge, build_judge
from dlrm.evaluation.true_rate import is_sampled
from dlrm.row_names import ids_checked, watched
from dlrm.run import Run, load_model

RawRows: TypeAlias = str | Path | pd.DataFrame
_BATCH_SIZE = 8192
_MAX_LOGITS = 1 << 24


@dataclass(frozen=True, slots=True)
class Scored:
    """Predictions and, row-aligned, where each row came from and its kept columns."""

    predictions: Found
    side: pa.Table


def score_split(
    run: Run,
    dataset: Dataset,
    *,
    split: str,
    checkpoint: Path,
    job: Job = ALONE,
    recalibrated: bool = True,
) -> Scored | None:
    """Score one split of the run's dataset.

    Logits are corrected by the keep rate and, unless ``recalibrated`` is false, by the
    run's recalibrator. All processes of the job call this; all but the first one get
    None.

    Raises:
        ConfigError: There is no such split, or it has no rows.
        RunError: The recalibrator is another checkpoint's.
    """
    ready = _SplitScoring.begun(run, dataset, split, checkpoint, job, recalibrated)
    with watched(ready.batches, dataset, split) as batches:
        predictions = ready.collect(batches)
    if predictions is None:
        return None
    assert len(predictions) == dataset.schema.num_rows(split), "a row was lost"
    return ready.corrected(predictions, dataset.side(split))


def score_split_in_parts(
    run: Run,
    dataset: Dataset,
    *,
    split: str,
    checkpoint: Path,
    rows_at_once: int,
    job: Job = ALONE,
) -> Iterator[Scored]:
    """Score a split as ``score_split`` does, about ``rows_at_once`` rows at a time.

    Row ids count from 0 in the split, rows of ``side`` in the part. All processes of
    the job iterate to the end; the first one alone is given parts.
    """
    ready = _SplitScoring.begun(run, dataset, split, checkpoint, job, True)
    sides = _side_parts(dataset, split) if job.is_writer else None
    batches_at_once = -(-rows_at_once // (_BATCH_SIZE * job.world_size))
    num_rows = 0
    with watched(ready.batches, dataset, split) as batches:
        rest = iter(batches)
        while first := next(rest, None):
            some = chain([first], islice(rest, batches_at_once - 1))
            found = ready.collect(some)
            if found is None or sides is None:
                continue
            side = sides(len(found))
            local = dataclasses.replace(found, row_ids=found.row_ids - num_rows)
            scored = ready.corrected(local, side)
            row_ids = local.row_ids + num_rows
            num_rows += len(found)
            predictions = dataclasses.replace(scored.predictions, row_ids=row_ids)
            yield Scored(predictions, side)
    assert not job.is_writer or num_rows == dataset.schema.num_rows(split), "lost"


@dataclass(frozen=True, slots=True)
class _SplitScoring:
    """A checkpoint, ready to score a split's batches with all processes of a job."""

    run: Run
    split: str
    job: Job
    model: nn.Module
    device: torch.device
    correction: Correction
    batches: Iterator[Batch]

    @classmethod
    def begun(
        cls,
        run: Run,
        dataset: Dataset,
        split: str,
        checkpoint: Path,
        job: Job,
        recalibrated: bool,
    ) -> _SplitScoring:
        sizes = {name: one.num_rows for name, one in dataset.schema.splits.items()}
        if not sizes.get(split):
            found = ", ".join(f"{name} ({rows:,} rows)" for name, rows in sizes.items())
            raise ConfigError(
                f"split must name a split with rows, but '{split}' is none: the "
                f"dataset has {found}."
            )
        correction = Correction(run.config.data)
        if recalibrated:
            correction = job.by_writer(lambda: correction_of(run, checkpoint))
        model, device = _load(run, checkpoint, job)
        dealt = whole_batches(run, job)
        own = dealt.of_split(job.together(lambda: dataset.split(split)))
        if job.control is not None:
            own = ids_checked(own, dataset, split, run.schema)
        batches = in_lockstep(own, job, dealt.padding)
        return cls(run, split, job, model, device, correction, batches)

    def collect(self, batches: Iterable[Batch]) -> Found | None:
        judge = judge_of(self.run)
        return collect_over_ranks(judge, self.model, batches, self.device, self.job)

    def corrected(self, found: Found, side: pa.Table) -> Scored:
        sampled = is_sampled(self.run.config.data, self.split)
        return Scored(self.correction.apply(found, side, sampled=sampled), side)


def _side_parts(dataset: Dataset, split: str) -> Callable[[int], pa.Table]:
    """Return what gives the next so many rows of a split's side columns."""
    batches = dataset.side_batches(split)
    held: list[pa.RecordBatch] = []

    def next_rows(count: int) -> pa.Table:
        while sum(len(batch) for batch in held) < count:
            held.append(next(batches))
        table = pa.Table.from_batches(held).unify_dictionaries()
        held[:] = table.slice(count).to_batches()
        return table.slice(0, count)

    return next_rows


def _load(run: Run, checkpoint: Path, job: Job) -> tuple[nn.Module, torch.device]:
    config = run.config.trainer
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    device = choose_device(config.device)
    job.watch.enter(Phase.start, f"loading {checkpoint}")
    return load_model(run, checkpoint=checkpoint, device=device, job=job), device


def score_rows(
    run: Run,
    rows: RawRows,
    *,
    checkpoint: Path,
    with_labels: bool,
    outside: OutsideIds | None = None,
    sampled: bool = False,
    keep: Sequence[str] = (),
    checks: InputChecks | None = None,
    job: Job = ALONE,
) -> Iterator[Scored]:
    """Apply the run's fitted transforms to raw rows and score them, part after part.

    Row ids count from 0 over all parts. Bad rows are errors, whatever the run's policy:
    the result is row for row with the input. ``outside`` counts ids that training
    never saw. ``sampled`` says that the rows were thinned as those of training.
    ``keep`` are columns to be kept beside those that the run's data keeps. ``checks``
    hold the rows to the run's contract, and speak when all have been scored.

    All processes of a job iterate to the end, and the first one alone is given the
    parts. Each reads and encodes all rows, since text has no rows to jump to, so
    every machine must see the same file; only the model's share of the work is
    divided.

    Raises:
        UserError: The input cannot be read as the run's data was.
    """
    data = input_config(run.config.data, rows)
    kept = [*(data.keep or []), *keep]
    data = dataclasses.replace(data, keep=kept if keep else data.keep)
    frame = rows if isinstance(rows, pd.DataFrame) else None
    # With labels a table would need its group, time and kept columns too, which new
    # rows may lack; label and weights are missed when the rows are read.
    required = with_labels and data.format is not SourceFormat.table
    source = open_source(data, frame, with_labels=required)
    transforms = FittedTransforms.load(run.folder)
    correction = job.by_writer(lambda: correction_of(run, checkpoint))
    model, device = _load(run, checkpoint, job)
    judge, dealt = judge_of(run), whole_batches(run, job)
    observe = None if outside is None else outside.observe
    start = 0
    if checks is not None:
        checks.see_columns(raw_columns(data, frame))
    parts = iter_encoded(data, transforms, source, with_labels, observe, checks)
    for encoded, side in alike(parts, job, size=lambda part: len(part[0])):
        if not len(encoded):
            continue
        job.watch.enter(Phase.evaluate, f"rows {start} and on of the input")
        batches = dealt.of_rows(encoded)
        found = collect_over_ranks(judge, model, batches, device, job)
        if found is not None:
            assert len(found) == len(encoded), "a row was lost"
            found = correction.apply(found, side, sampled=sampled)
            found = dataclasses.replace(found, row_ids=found.row_ids + start)
            yield Scored(found, side)
        start += len(encoded)
    if start == 0:
        name = rows if frame is None else "the DataFrame"
        raise DataError(f"input must have rows, but {name} has none.")
    if checks is not None:
        checks.finish(silent=not job.is_writer)


def score_table(
    run: Run,
    rows: RawRows,
    *,
    checkpoint: Path,
    outside: OutsideIds | None = None,
    job: Job = ALONE,
) -> Iterator[pa.Table]:
    """Score rows that need no label; yield tables of row, id and the judge's scores.

    On several processes as ``score_rows``: to be iterated by all, given to the first.
    """
    id_column, judge = run.config.data.id_column, judge_of(run)
    for part in score_rows(
        run,
        rows,
        checkpoint=checkpoint,
        with_labels=False,
        outside=outside,
        checks=checks_of(run, "input", with_labels=False),
        job=job,
    ):
        found = part.predictions
        columns: dict[str, Any] = {"row": found.row_ids}
        if id_column is not None:
            columns[id_column] = part.side[id_column]
        yield pa.table(columns | judge.scores(found))


def checks_of(run: Run, name: str, *, with_labels: bool) -> InputChecks:
    """Return what holds an input to the run's data contract.

    Raises:
        DatasetError: The contract is damaged.
    """
    return InputChecks(
        run.folder, run.config.data, run.schema, name=name, with_labels=with_labels
    )


def whole_batches(run: Run, job: Job) -> WholeBatches:
    """Return the batches that a run's rows are scored in, this process's share."""
    # The logits of so many rows are held at a time.
    size = max(1, min(_BATCH_SIZE, _MAX_LOGITS // run.schema.num_outputs))
    return WholeBatches(
        run.schema, batch_size=size, rank=job.rank, world_size=job.world_size
    )


def correction_of(run: Run, checkpoint: Path) -> Correction:
    """Return what makes a checkpoint's logits true.

    Raises:
        RunError: The run's recalibrator is another checkpoint's, or is damaged.
    """
    return Correction.of_run(run.folder, run.config.data, checkpoint=checkpoint.name)


def recalibration_of(run: Run, checkpoint: Path, found: Found) -> dict[str, Any] | None:
    """Return recalibration.json's content; None where no logit was corrected."""
    correction = correction_of(run, checkpoint)
    if correction.does_nothing:
        return None
    return describe_recalibration(found, correction)


def judge_of(run: Run) -> Judge:
    """Return the judge of a run's task."""
    return build_judge(run.config.task, run.schema, run.folder)


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
