"""``dlrm explain``: which features matter, whether tables are sound, why one row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands import launch
from dlrm.commands.arguments import (
    Arguments,
    CommandHelp,
    check_folder_of,
    parse,
    required,
)
from dlrm.commands.code import check_code, import_code
from dlrm.config.errors import ConfigError
from dlrm.config.keys import did_you_mean
from dlrm.config.progress import report_line

if TYPE_CHECKING:
    import pandas as pd

    from dlrm.run import Run

IMPORTANCE_FILE, EMBEDDINGS_FILE = "importance.json", "embeddings.json"
_WHAT = ("importance", "embeddings", "row")
_READ_BY = {
    "importance": {"split", "rows", "repeats", "seed"},
    "embeddings": {"split", "table"},
    "row": {"split", "row", "input", "background", "seed", "output"},
}
"""Keys that only some explanations read, beside run, what and checkpoint."""

HELP = CommandHelp(
    name="explain",
    summary="Say which features matter, whether tables are sound, and why one row",
    usage="run=DIR [what=importance | embeddings | row] [split=test] [row=K]",
    description=(
        "what=importance measures what the model loses when a feature's values are "
        "exchanged between rows, with intervals, beside what the feature costs, and "
        "lists what could go; what=embeddings looks for rows that are untrained, dead, "
        "equal or exploding; row=K says what each feature adds to the logit of one "
        "row. The first two write importance.json and embeddings.json to "
        "DIR/evaluation/<split>/."
    ),
    keys={
        "run": "the run directory that dlrm train printed",
        "what": "importance (the default), embeddings, or row, which row= implies",
        "split": "train, valid or test (the default)",
        "rows": "importance: rows drawn from the split (100000)",
        "repeats": "importance: how often each feature's values are exchanged (5)",
        "table": "embeddings: one table alone",
        "row": "row: its number in the split or in input, from 0",
        "input": "row: a file of raw rows that holds the row; labels are not needed",
        "background": "row: rows of the split that it is held against (200)",
        "output": "row: a .json file for the result",
        "seed": "of all that is drawn (0)",
        "checkpoint": "best (the default), last, or a name such as step_000000500",
    },
    examples=(
        "dlrm explain run=outputs/20260131-101500-synthetic-dlrm",
        "dlrm explain run=outputs/20260131-101500-synthetic-dlrm what=embeddings",
        "dlrm explain run=outputs/20260131-101500-synthetic-dlrm row=123",
        "dlrm explain run=outputs/20260131-101500-synthetic-dlrm input=new.csv row=0",
    ),
)


def main(argv: list[str]) -> int:
    """Run the command."""
    launch.refuse_ranks("explain")
    arguments = parse(argv, HELP.keys)
    run = required(arguments, "run", HELP.examples[0])
    if arguments.overrides:
        raise ConfigError(
            f"dlrm explain uses the run's own settings, but got "
            f"{arguments.overrides[0]}. Its keys are {', '.join(HELP.keys)}."
        )
    what, values = _what(arguments), arguments.values
    split, checkpoint = values.get("split", "test"), values.get("checkpoint", "best")
    seed = _count(values, "seed", 0, least=0)
    if what == "importance":
        importance(
            run,
            split=split,
            rows=_count(values, "rows", 100_000),
            repeats=_count(values, "repeats", 5),
            seed=seed,
            checkpoint=checkpoint,
            code=arguments.code,
        )
    elif what == "embeddings":
        embedding_health(
            run,
            split=split,
            table=values.get("table"),
            checkpoint=checkpoint,
            code=arguments.code,
        )
    else:
        required(arguments, "row", HELP.examples[2])
        output = Path(values["output"]) if values.get("output") else None
        _check_output(output)
        found = explain_row(
            run,
            _count(values, "row", 0, least=0),
            split=split,
            input=values.get("input"),
            background=_count(values, "background", 200, least=2),
            seed=seed,
            checkpoint=checkpoint,
            code=arguments.code,
            report=report_line,
        )
        if output is not None:
            _write(output, found)
            report_line(f"\nrow     {output}")
    return 0


def importance(
    run: str | Path,
    *,
    split: str = "test",
    rows: int = 100_000,
    repeats: int = 5,
    seed: int = 0,
    checkpoint: str = "best",
    code: Sequence[str | Path] = (),
    report: Callable[[str], None] = report_line,
) -> dict[str, Any]:
    """Measure every feature's permutation importance on a split; see ``docs``.

    Returns what it writes to ``importance.json`` in the split's evaluation.

    Raises:
        UserError: The run, the split or its task does not fit; see the message.
    """
    opened = _open(run, code)

    from dlrm.explanation.importance_of_run import importance_of_run
    from dlrm.explanation.terminal import format_importance
    from dlrm.run import find_checkpoint

    found = importance_of_run(
        opened,
        find_checkpoint(opened, checkpoint),
        split=split,
        num_rows=rows,
        repeats=repeats,
        seed=seed,
    )
    path = _write(opened.evaluation(split) / IMPORTANCE_FILE, found)
    report(format_importance(found))
    report(f"\nimportance  {path}")
    return found


def embedding_health(
    run: str | Path,
    *,
    split: str = "test",
    table: str | None = None,
    checkpoint: str = "best",
    code: Sequence[str | Path] = (),
    report: Callable[[str], None] = report_line,
) -> dict[str, Any]:
    """Look for rows of a run's tables that are untrained, dead, equal or exploding.

    Returns what it writes to ``embeddings.json`` in the split's evaluation; with
    ``table`` nothing is written.

    Raises:
        UserError: The run or the table does not fit; see the message.
    """
    opened = _open(run, code)

    from dlrm.explanation.health import check_health
    from dlrm.explanation.terminal import format_health
    from dlrm.run import find_checkpoint

    _check_split(opened, split)
    folder = find_checkpoint(opened, checkpoint)
    found = {
        "run": opened.folder.name,
        "checkpoint": folder.name,
        **check_health(opened, folder, table=table),
    }
    report(format_health(found))
    if table is None:
        path = _write(opened.evaluation(split) / EMBEDDINGS_FILE, found)
        report(f"\nembeddings  {path}")
    return found


def explain_row(
    run: str | Path,
    row: int,
    *,
    split: str = "test",
    input: str | Path | pd.DataFrame | None = None,
    background: int = 200,
    seed: int = 0,
    checkpoint: str = "best",
    code: Sequence[str | Path] = (),
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Say what each feature adds to one row's logit, against rows of a split.

    ``row`` counts from 0, in the split or in ``input``, raw rows that need no label.

    Raises:
        UserError: The run, the split or the row does not fit; see the message.
    """
    opened = _open(run, code)

    from dlrm.explanation.row import RowPlace, explanation_of_row
    from dlrm.explanation.terminal import format_row
    from dlrm.run import find_checkpoint

    found = explanation_of_row(
        opened,
        find_checkpoint(opened, checkpoint),
        RowPlace(split=split, row=row, input=input),
        background=background,
        seed=seed,
    )
    report(format_row(found))
    return found


def _open(run: str | Path, code: Sequence[str | Path]) -> Run:
    import_code([Path(file) for file in code])
    from dlrm.run import open_run

    opened = open_run(Path(run))
    check_code(opened.folder, given=bool(code))
    return opened


def _what(arguments: Arguments) -> str:
    values = arguments.values
    what = values.get("what", "row" if "row" in values else "importance")
    if what not in _WHAT:
        raise ConfigError(
            f"what must be one of {', '.join(_WHAT)}, but it is '{what}'."
            f"{did_you_mean(what, list(_WHAT))}"
        )
    for key in values:
        readers = [name for name in _WHAT if key in _READ_BY[name]]
        if readers and what not in readers:
            raise ConfigError(
                f"{key} is for what={' or '.join(readers)}, but what is {what}. Leave "
                f"it out, or set what={readers[0]}."
            )
    return what


def _count(values: dict[str, str], key: str, default: int, *, least: int = 1) -> int:
    text = values.get(key, str(default))
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ConfigError(
            f"{key} must be a whole number of at least {least}, but it is '{text}'."
        )
    return int(text)


def _check_split(run: Run, split: str) -> None:
    """Refuse a name that would become a folder of its own."""
    if split not in run.schema.splits:
        raise ConfigError(
            f"split must be one of {', '.join(run.schema.splits)}, but it is '{split}'."
        )


def _check_output(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix != ".json":
        raise ConfigError(f"output must end in .json, but it is '{path}'.")
    check_folder_of(path)


def _write(path: Path, content: dict[str, Any]) -> Path:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
        aside.write_text(text + "\n", encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path
