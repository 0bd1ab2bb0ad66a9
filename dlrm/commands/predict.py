"""``dlrm predict``: raw rows in, probabilities out, row for row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlrm.commands.arguments import CommandHelp, parse, required
from dlrm.commands.code import check_code, import_code
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line

if TYPE_CHECKING:
    import pandas as pd

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
    },
    examples=(
        "dlrm predict run=outputs/20260131-101500-clicks-dlrm input=new.csv "
        "output=scores.csv",
    ),
)


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys)
    if arguments.overrides:
        raise ConfigError(
            f"dlrm predict uses the run's own settings, but got "
            f"{arguments.overrides[0]}. Its keys are {', '.join(HELP.keys)}."
        )
    run, source, target = (
        required(arguments, key, HELP.examples[0]) for key in ("run", "input", "output")
    )
    checkpoint = arguments.values.get("checkpoint", "best")
    _predict_file(
        Path(run), source, Path(target), checkpoint=checkpoint, code=arguments.code
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

    Raises:
        UserError: The run or the input does not fit; see the message.
    """
    import pandas as pd

    import_code([Path(file) for file in code])
    check_code(Path(run), given=bool(code))

    from dlrm.run import find_checkpoint, open_run
    from dlrm.scoring import score_table

    opened = open_run(Path(run))
    found = find_checkpoint(opened, checkpoint)
    parts = [
        table.to_pandas() for table in score_table(opened, input, checkpoint=found)
    ]
    return pd.concat(parts, ignore_index=True)


def _predict_file(
    run: Path,
    source: str,
    target: Path,
    *,
    checkpoint: str,
    code: list[Path],
    report: Callable[[str], None] = report_line,
) -> None:
    from dlrm.commands.tables import check_target, write_tables

    check_target(target)
    if target.resolve() == Path(source).resolve():
        raise ConfigError(
            f"output must be another file than input, but both are {target}. "
            f"Name a new file."
        )
    import_code(code)
    check_code(run, given=bool(code))

    from dlrm.data.transforms.outside_ids import OutsideIds
    from dlrm.run import find_checkpoint, open_run
    from dlrm.scoring import score_table

    opened, outside = open_run(run), OutsideIds()
    found = find_checkpoint(opened, checkpoint)
    tables = score_table(opened, source, checkpoint=found, outside=outside)
    num_rows = write_tables(target, tables)
    for line in outside.describe(opened.schema):
        report(line)
    report(f"{num_rows:,} rows scored with {found.name} -> {target}")
