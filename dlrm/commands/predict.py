"""``dlrm predict``: raw rows in, probabilities out, row for row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.commands import launch
from dlrm.commands.arguments import CommandHelp, parse, required
from dlrm.commands.code import check_code, import_code
from dlrm.commands.run_settings import refuse_settings
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.distributed.job import Job
    from dlrm.run import Run

HELP = CommandHelp(
    name="predict",
    summary="Score raw rows with a trained model",
    usage="run=DIR input=FILE output=FILE [checkpoint=NAME]",
    description=(
        "Applies the run's own fitted transforms to raw rows, which need no label, and "
        "writes row, id (where data.id_column is set), probability and logit, row for "
        "row; where labels are classes, the likeliest of them and their probabilities."
    ),
    keys={
        "run": "the run directory that dlrm train printed",
        "input": "a file of raw rows, in the layout of the training files",
        "output": "the file to write: .csv, .csv.gz or .parquet",
        "checkpoint": "best (the default), last, or a name such as step_000000500",
        "processes": "how many processes of this machine share the work (1)",
    },
    settings={"data.checks.KIND.severity": "ignore, warn or error: docs/contract.md"},
    examples=(
        "dlrm predict run=outputs/20260131-101500-clicks-dlrm input=new.csv "
        "output=scores.csv",
    ),
)


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys)
    refuse_settings("predict", arguments.overrides, HELP.keys)
    run, source, target = (
        required(arguments, key, HELP.examples[0]) for key in ("run", "input", "output")
    )
    processes = arguments.values.get("processes")
    ended = launch.run_on(Path(run), ["predict", *argv], processes=processes)
    if ended is not None:
        return ended
    checkpoint = arguments.values.get("checkpoint", "best")
    _predict_file(
        Path(run),
        source,
        Path(target),
        checkpoint=checkpoint,
        code=arguments.code,
        overrides=arguments.overrides,
    )
    return 0


def predict(
    run: str | Path,
    input: str | Path | pd.DataFrame,
    *,
    checkpoint: str = "best",
    code: Sequence[str | Path] = (),
) -> pd.DataFrame:
    """Return one row for each raw row: ``row``, id, ``probability`` and ``logit``.

    Where labels are classes: ``class_1``, ``probability_1``, ``class_2``, ...

    Processes that torchrun or Slurm has started share the work. Each gives the same
    ``input``; the first one gets all rows, the others a frame without any.

    Raises:
        UserError: The run or the input does not fit; see the message.
    """
    import_code([Path(file) for file in code])
    check_code(Path(run), given=bool(code))

    from dlrm.distributed.device import choose_device
    from dlrm.distributed.job import joined
    from dlrm.run import open_run

    opened = open_run(Path(run))
    config = opened.config
    with joined(choose_device(config.trainer.device), watch=config.watch) as job:
        return predict_rows(opened, input, checkpoint=checkpoint, job=job)


def predict_rows(
    run: Run, rows: str | Path | pd.DataFrame, *, checkpoint: str, job: Job
) -> pd.DataFrame:
    """Do what ``predict`` does, with all processes of ``job``."""
    import pandas as pd

    from dlrm.run import find_checkpoint
    from dlrm.scoring import score_table

    found = job.by_writer(lambda: find_checkpoint(run, checkpoint))
    tables = score_table(run, rows, checkpoint=found, job=job)
    parts = [table.to_pandas() for table in tables]
    return pd.concat(parts, ignore_index=True) if job.is_writer else pd.DataFrame()


def _predict_file(
    run: Path,
    source: str,
    target: Path,
    *,
    checkpoint: str,
    code: list[Path],
    overrides: Sequence[str] = (),
    report: Callable[[str], None] = report_line,
) -> None:
    from dlrm.commands.tables import check_target

    check_target(target)
    if target.resolve() == Path(source).resolve():
        raise ConfigError(
            f"output must be another file than input, but both are {target}. "
            f"Name a new file."
        )
    import_code(code)
    check_code(run, given=bool(code))

    from dlrm.distributed.device import choose_device
    from dlrm.distributed.job import joined
    from dlrm.run import open_run, with_settings

    opened = with_settings(open_run(run), overrides)
    config = opened.config
    with joined(choose_device(config.trainer.device), watch=config.watch) as job:
        predict_file(
            opened, source, target, checkpoint=checkpoint, report=report, job=job
        )


def predict_file(
    run: Run,
    source: str,
    target: Path,
    *,
    checkpoint: str,
    report: Callable[[str], None],
    job: Job,
) -> None:
    """Score a file's rows with all processes of ``job``; the first one writes.

    It holds one part of the rows at a time, as every process does.
    """
    from dlrm.commands.tables import write_tables
    from dlrm.data.transforms.outside_ids import OutsideIds
    from dlrm.run import find_checkpoint
    from dlrm.scoring import score_table

    found, outside = (
        job.by_writer(lambda: find_checkpoint(run, checkpoint)),
        OutsideIds(),
    )
    tables = score_table(run, source, checkpoint=found, outside=outside, job=job)
    if not job.is_writer:
        # Takes part in the scoring and is given nothing.
        assert not list(tables)
        return
    num_rows = write_tables(target, tables)
    for line in outside.describe(run.schema):
        report(line)
    report(f"{num_rows:,} rows scored with {found.name} -> {target}")
