"""One evaluation of a run, on a split or on new rows, by all processes of its job."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands.results import write_large_results, write_results
from dlrm.config.slices import SliceSpec
from dlrm.config.task import TaskName

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.data.storage.dataset import Dataset
    from dlrm.distributed.job import Job
    from dlrm.run import Run
    from dlrm.scoring import Scored

_ROWS_AT_ONCE = 1_000_000
"""Of a split that is scored part by part."""


def evaluate_run(
    run: Run,
    rows: str | Path | pd.DataFrame | None,
    *,
    name: str,
    sampled: bool = False,
    checkpoint: str,
    specs: Sequence[SliceSpec] | None = None,
    report: Callable[[str], None],
    job: Job,
) -> dict[str, Any]:
    """Evaluate a run on labelled rows, or on its split ``name`` where they are None.

    All processes of ``job`` call this and get the metrics.
    """
    from dlrm.distributed.watch import Phase
    from dlrm.run import open_dataset
    from dlrm.scoring import judge_of

    if rows is None:
        # Checksums are the first one's work, and so is preparing anew what is gone.
        job.watch.enter(Phase.prepare, "opening the dataset")
        dataset = job.by_writer(lambda: open_dataset(run, split=name))
        metrics = evaluate_split(
            run, dataset, split=name, checkpoint=checkpoint, specs=specs, job=job
        )
        lines: list[str] = []
    else:
        metrics, lines = _evaluate_input(
            run,
            rows,
            name=name,
            sampled=sampled,
            checkpoint=checkpoint,
            specs=specs,
            job=job,
        )
    if not job.is_writer:
        return metrics
    group = run.config.data.group_column
    lines.append(judge_of(run).describe(metrics))
    if group is not None and "auc" in metrics and "gauc" not in metrics:
        lines.append(f"No grouped AUC: the rows have no column '{group}'.")
    if metrics["num_examples"] > _rows_in_memory(run):
        limit = run.config.evaluation.rows_in_memory
        lines.append(
            f"Without intervals and slices: there are more rows than "
            f"evaluation.rows_in_memory={limit}."
        )
    lines += slice_lines(run, name)
    lines.append(f"\nreport  {run.evaluation(name) / 'report.html'}")
    for line in lines:
        report(line)
    return metrics


def evaluate_split(
    run: Run,
    dataset: Dataset,
    *,
    split: str,
    job: Job,
    checkpoint: str = "best",
    specs: Sequence[SliceSpec] | None = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint on one split of the run's dataset and write the results.

    ``specs`` are what to slice by where not as ``evaluation.slices`` says.

    All processes of ``job`` call this and get the metrics.
    """
    from dlrm.commands.slicing import Slicing
    from dlrm.distributed.watch import Phase
    from dlrm.run import find_checkpoint
    from dlrm.scoring import score_split, score_split_in_parts

    slicing = Slicing.of_run(run, specs)
    job.by_writer(lambda: slicing.check_split(dataset))
    found = job.by_writer(lambda: find_checkpoint(run, checkpoint))
    limit = _rows_in_memory(run)
    if split in dataset.splits and dataset.schema.num_rows(split) > limit:
        size = int(min(limit, _ROWS_AT_ONCE))
        parts = score_split_in_parts(
            run, dataset, split=split, checkpoint=found, rows_at_once=size, job=job
        )
        return write_large_results(run, parts, name=split, checkpoint=found, job=job)
    scored = score_split(run, dataset, split=split, checkpoint=found, job=job)
    job.watch.enter(Phase.metrics, f"the metrics of {split}")

    def write() -> dict[str, Any]:
        assert scored is not None, "the first process has what all have scored"
        slices = slicing.of_split(scored, dataset, split)
        return write_results(run, scored, name=split, checkpoint=found, slices=slices)

    return job.by_writer(write)


def _evaluate_input(
    run: Run,
    rows: str | Path | pd.DataFrame,
    *,
    name: str,
    sampled: bool,
    checkpoint: str,
    specs: Sequence[SliceSpec] | None,
    job: Job,
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate on new labelled rows; say what ids of them training never saw."""
    from dlrm.commands.slicing import Slicing
    from dlrm.data.transforms.outside_ids import OutsideIds
    from dlrm.distributed.watch import Phase
    from dlrm.run import find_checkpoint
    from dlrm.scoring import checks_of, concatenate_scored, judge_of, score_rows

    slicing = Slicing.of_run(run, specs)
    found = job.by_writer(lambda: find_checkpoint(run, checkpoint))
    outside = OutsideIds(keep_rows=True)
    checks = checks_of(run, name, with_labels=True)
    scored = score_rows(
        run,
        rows,
        checkpoint=found,
        with_labels=True,
        outside=outside,
        sampled=sampled,
        keep=slicing.columns,
        checks=checks,
        job=job,
    )
    parts: list[Scored] = []
    num_rows, limit = 0, _rows_in_memory(run)
    for part in scored:
        parts.append(part)
        num_rows += len(part.side)
        if num_rows > limit:
            rest = chain(parts, scored)
            metrics = write_large_results(
                run,
                rest,
                name=name,
                checkpoint=found,
                job=job,
                outside=outside,
                findings=checks.found,
            )
            return metrics, outside.describe(run.schema)
    job.watch.enter(Phase.metrics, f"the metrics of {name}")

    def write() -> dict[str, Any]:
        whole = concatenate_scored(parts, judge_of(run))
        slices = slicing.of_input(whole, outside, name=name, sampled=sampled)
        return write_results(
            run,
            whole,
            name=name,
            checkpoint=found,
            outside=outside,
            slices=slices,
            findings=checks.found,
        )

    return job.by_writer(write), outside.describe(run.schema)


def _rows_in_memory(run: Run) -> float:
    """Return how many rows may be judged at once; only clicks can be by parts."""
    clicks = run.config.task.resolved(run.schema.label_kind) is TaskName.click
    return run.config.evaluation.rows_in_memory if clicks else math.inf


def slice_lines(run: Run, name: str) -> list[str]:
    """Return what a terminal is told of the slices of an evaluation just written."""
    from dlrm.evaluation.slices.evaluating import describe_slices

    path = run.evaluation(name) / "slices.json"
    if not path.is_file():
        return []
    lines = describe_slices(json.loads(path.read_text(encoding="utf-8")))
    return ["", *lines] if lines else []
