"""``dlrm evaluate``: how good a run is, on a split or on a new labelled file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlrm.commands import launch
from dlrm.commands.arguments import CommandHelp, parse, required
from dlrm.commands.code import check_code, import_code
from dlrm.commands.evaluating import evaluate_run
from dlrm.commands.run_settings import refuse_settings
from dlrm.config.errors import ConfigError
from dlrm.config.progress import report_line
from dlrm.config.slices import parse_slices

if TYPE_CHECKING:
    import pandas as pd

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


def _slice_texts(text: str | None) -> list[str] | None:
    if text is None:
        return None
    bare = text.removeprefix("[").removesuffix("]").strip()
    return [part.strip() for part in bare.split(",")] if bare else []


def _is_true(text: str) -> bool:
    if text not in ("true", "false"):
        raise ConfigError(f"sampled must be true or false, but it is '{text}'.")
    return text == "true"
