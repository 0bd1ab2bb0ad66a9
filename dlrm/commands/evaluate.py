"""``dlrm evaluate``: how good a run is, on a split or on a new labelled file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands.arguments import CommandHelp, parse, required
from dlrm.commands.code import check_code, import_code
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.data.storage.dataset import Dataset
    from dlrm.data.transforms.outside_ids import OutsideIds
    from dlrm.run import Run
    from dlrm.scoring import Scored

_PROVENANCE = (
    "created", "data_fingerprint", "git_revision", "packages", "platform", "seed",
)  # fmt: skip
_SPLITS = ("train", "valid", "test")

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
        "name": "what the results of input are called; the file's name if not given",
        "checkpoint": "best (the default), last, or a name such as step_000000500",
    },
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
    if arguments.overrides:
        raise ConfigError(
            f"dlrm evaluate uses the run's own settings, but got "
            f"{arguments.overrides[0]}. Its keys are {', '.join(HELP.keys)}."
        )
    values = arguments.values
    evaluate(
        run,
        split=values.get("split"),
        input=values.get("input"),
        name=values.get("name"),
        checkpoint=values.get("checkpoint", "best"),
        code=arguments.code,
    )
    return 0


def evaluate(
    run: str | Path,
    *,
    split: str | None = None,
    input: str | Path | pd.DataFrame | None = None,
    name: str | None = None,
    checkpoint: str = "best",
    code: Sequence[str | Path] = (),
    report: Callable[[str], None] = report_line,
) -> dict[str, Any]:
    """Evaluate a run and return the content of its metrics.json.

    ``input`` is a labelled file or DataFrame of raw rows, and ``name`` the folder of
    its results; without one the file's name up to its first dot.

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
    import_code([Path(file) for file in code])

    from dlrm.run import open_dataset, open_run
    from dlrm.scoring import judge_of

    opened = open_run(Path(run))
    check_code(opened.folder, given=bool(code))
    if input is None:
        name = split or "test"
        dataset = open_dataset(opened)
        metrics = evaluate_split(opened, dataset, split=name, checkpoint=checkpoint)
    else:
        assert name is not None
        metrics = _evaluate_input(
            opened, input, name=name, checkpoint=checkpoint, report=report
        )
    report(judge_of(opened).describe(metrics))
    group = opened.config.data.group_column
    if group is not None and "auc" in metrics and "gauc" not in metrics:
        report(f"No grouped AUC: the rows have no column '{group}'.")
    report(f"\nreport  {opened.evaluation(name) / 'report.html'}")
    return metrics


def evaluate_split(
    run: Run, dataset: Dataset, *, split: str, checkpoint: str = "best"
) -> dict[str, Any]:
    """Evaluate a checkpoint on one split of the run's dataset and write the results."""
    from dlrm.run import find_checkpoint
    from dlrm.scoring import score_split

    found = find_checkpoint(run, checkpoint)
    scored = score_split(run, dataset, split=split, checkpoint=found)
    return _write(run, scored, name=split, checkpoint=found)


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
    checkpoint: str,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Evaluate on new labelled rows; say what ids of them training never saw."""
    from dlrm.data.transforms.outside_ids import OutsideIds
    from dlrm.run import find_checkpoint
    from dlrm.scoring import concatenate_scored, judge_of, score_rows

    found, outside = find_checkpoint(run, checkpoint), OutsideIds()
    parts = score_rows(run, rows, checkpoint=found, with_labels=True, outside=outside)
    scored = concatenate_scored(list(parts), judge_of(run))
    metrics = _write(run, scored, name=name, checkpoint=found, outside=outside)
    for line in outside.describe(run.schema):
        report(line)
    return metrics


def _write(
    run: Run,
    scored: Scored,
    *,
    name: str,
    checkpoint: Path,
    outside: OutsideIds | None = None,
) -> dict[str, Any]:
    from dlrm.evaluation.evaluation import ReportContext, write_evaluation
    from dlrm.metric_log import read_metrics
    from dlrm.scoring import judge_of

    manifest = run.manifest()
    context = ReportContext(
        run=run.folder.name,
        split=name,
        model=run.config.model["name"],
        checkpoint=checkpoint.name,
        config=dataclasses.asdict(run.config),
        provenance={key: manifest[key] for key in _PROVENANCE},
        history=read_metrics(run.folder),
    )
    return write_evaluation(
        run.evaluation(name),
        judge=judge_of(run),
        predictions=scored.predictions,
        side=scored.side,
        group_column=_group_column(run, scored),
        context=context,
        outside_ids=None if outside is None else outside.record(),
    )


def _group_column(run: Run, scored: Scored) -> str | None:
    column = run.config.data.group_column
    return column if column in scored.side.column_names else None
