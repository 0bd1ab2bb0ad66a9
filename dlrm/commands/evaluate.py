"""``dlrm evaluate``: how good a run is, on a split or on a new labelled file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands import launch
from dlrm.commands.arguments import CommandHelp, parse, required
from dlrm.commands.code import check_code, import_code
from dlrm.commands.results import write_large_results, write_results
from dlrm.commands.run_settings import refuse_settings
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line
from dlrm.config.slices import SliceSpec, parse_slices
from dlrm.config.task import TaskName

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.data.storage.dataset import Dataset
    from dlrm.distributed.job import Job
    from dlrm.run import Run
    from dlrm.scoring import Scored

_SPLITS = ("train", "valid", "test")
_ROWS_AT_ONCE = 1_000_000
"""Of a split that is scored part by part."""

HELP = CommandHelp(
    name="evaluate",
    summary="Measure a trained model on a split or a labelled file",
    usage="run=DIR [split=test | input=FILE [name=NAME]] [checkpoint=NAME]",
    description=(
        "Writes metrics.json, predictions.parquet and report.html to "
        "DIR/evaluation/<split or name>/ and prints the metrics."
    ),
    keys={
        "run": "the run directory that dlrm train printed",
        "split": "train, valid or test (the default)",
        "input": "a labelled file of raw rows instead of a split",
        "sampled": "true where the non-clicks of input were thinned as in training",
        "name": "what the results of input are called; the file's name if not given",
        "checkpoint": "best (the default), last, or a name such as step_000000500",
        "slices": "what to slice by instead of evaluation.slices, such as "
        "device,country*device,time:day; [] is nothing",
        "processes": "how many processes of this machine share the work (1)",
    },
    settings={"data.checks.KIND.severity": "ignore, warn or error: docs/contract.md"},
    examples=(
        "dlrm evaluate run=outputs/20260131-101500-synthetic-dlrm",
        "dlrm evaluate run=outputs/20260131-101500-synthetic-dlrm split=valid",
        "dlrm evaluate run=outputs/20260131-101500-synthetic-dlrm input=monday.csv",
    ),
)


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys)
    run = required(arguments, "run", HELP.examples[0])
    refuse_settings("evaluate", arguments.overrides, HELP.keys)
    values = arguments.values
    ended = launch.run_on(
        Path(run), ["evaluate", *argv], processes=values.get("processes")
    )
    if ended is not None:
        return ended
    evaluate(
        run,
        split=values.get("split"),
        input=values.get("input"),
        name=values.get("name"),
        sampled=_is_true(values.get("sampled", "false")),
        checkpoint=values.get("checkpoint", "best"),
        slices=_slice_texts(values.get("slices")),
        code=arguments.code,
        overrides=arguments.overrides,
    )
    return 0


def evaluate(
    run: str | Path,
    *,
    split: str | None = None,
    input: str | Path | pd.DataFrame | None = None,
    name: str | None = None,
    sampled: bool = False,
    checkpoint: str = "best",
    slices: Sequence[str] | None = None,
    code: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    report: Callable[[str], None] = report_line,
) -> dict[str, Any]:
    """Evaluate a run and return the content of its metrics.json.

    ``input`` is a labelled file or DataFrame of raw rows, and ``name`` the folder of
    its results; without one the file's name up to its first dot. ``sampled`` says that
    its non-clicks were thinned as those of training, by the run's own keep rate.
    ``slices`` stand in for the run's ``evaluation.slices``, and ``overrides`` for its
    ``data.checks``.

    Processes that torchrun or Slurm has started share the work. Each returns the
    metrics, which are one process's; the first one writes and reports.

    Raises:
        UserError: The run, the split or the input does not fit; see the message.
    """
    if split is not None and input is not None:
        raise ConfigError(
            f"Either split or input must be given, but both are: split={split} and "
            f"input={input}. Leave one out."
        )
    if input is not None:
        name = _result_name(input, name)
    elif name is not None:
        raise ConfigError(
            f"name is for the results of input, but no input is given: name={name}. "
            f"A split's results have the split's name; leave name out."
        )
    if sampled and input is None:
        raise ConfigError(
            "sampled is for the rows of input, but no input is given. Which splits are "
            "sampled is set by data.sampled_splits; leave sampled out."
        )
    specs = None if slices is None else parse_slices(slices, key="slices")
    import_code([Path(file) for file in code])

    from dlrm.distributed.device import choose_device
    from dlrm.distributed.job import joined
    from dlrm.run import open_run, with_settings

    opened = with_settings(open_run(Path(run)), overrides)
    check_code(opened.folder, given=bool(code))
    config = opened.config
    with joined(choose_device(config.trainer.device), watch=config.watch) as job:
        rows, name = input, name or split or "test"
        return evaluate_run(
            opened,
            rows,
            name=name,
            sampled=sampled,
            checkpoint=checkpoint,
            specs=specs,
            report=report,
            job=job,
        )


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
        dataset = job.by_writer(lambda: open_dataset(run))
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


def _result_name(rows: str | Path | pd.DataFrame, name: str | None) -> str:
    """Return the folder of the results, which must not be a split's."""
    if name is None:
        named = isinstance(rows, str | Path)
        name = Path(rows).name.partition(".")[0] if named else "frame"
    if not re.fullmatch(r"\w[\w.-]*", name) or name in _SPLITS:
        raise ConfigError(
            f"name must be letters, digits, dots and dashes, and no split's name, but "
            f"it is '{name}'. Say what the results are called: name=monday"
        )
    return name


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


def _slice_texts(text: str | None) -> list[str] | None:
    if text is None:
        return None
    bare = text.removeprefix("[").removesuffix("]").strip()
    return [part.strip() for part in bare.split(",")] if bare else []


def _is_true(text: str) -> bool:
    if text not in ("true", "false"):
        raise ConfigError(f"sampled must be true or false, but it is '{text}'.")
    return text == "true"
