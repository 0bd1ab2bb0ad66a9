"""``dlrm bench``: this machine's speed beside its limits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dlrm.commands.arguments import Arguments, CommandHelp, check_folder_of, parse
from dlrm.commands.code import import_code
from dlrm.commands.starting import import_torch
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError

HELP = CommandHelp(
    name="bench",
    summary="Measure this machine's speed",
    usage="WHAT [rounds=N] [output=FILE] [key=value ...]",
    description=(
        "train: the real loop, from a dataset on disk with shuffling, logging and "
        "checkpoints on, beside yardsticks whose batches are in memory; a step in "
        "parts, and the machine's limits. prepare: raw Criteo-like rows to a dataset. "
        "load: batches from disk. evaluate: a pass over a split. checkpoint: save and "
        "load. start: from the command to the first step. auc: the exact AUC of many "
        "scores. All in interleaved rounds, each yardstick but auc's twice: its ratio "
        "to itself is the noise, and beyond 3 % a measurement of train, prepare, load "
        "or evaluate is void (exit code 75)."
    ),
    keys={
        "what": "train, prepare, load, evaluate, checkpoint, start or auc",
        "rounds": "interleaved rounds; where not given 15 of train, load and evaluate, "
        "5 of checkpoint, start and auc, 3 of prepare",
        "steps": "train, load, evaluate: batches of a turn; where not given 30, of "
        "load and evaluate 100",
        "against": "train: yardsticks: bare, embedding_bags, both with a comma, or "
        "none; all that there are for the model where not given",
        "baseline": "train: a command of your own to time beside it; see "
        "docs/performance.md for the lines it must read and write",
        "rows": "prepare: rows to prepare (2000000); auc: scores (10000000); start: "
        "rows of the dataset (200000)",
        "their_rows": "prepare: rows that torchrec's method gets (500000)",
        "skew": "prepare: exponent of the ids' power law (1.05); the lower, the more "
        "distinct ids",
        "output": "a file for the figures as JSON",
        "roofline": "train: a file for the picture; output with .svg where not given",
    },
    settings={
        "workload": "w1 (26 one-hot tables) or w2 (long bags); without one, data",
        "data": "any dataset, as of dlrm train",
        "model": "any model",
        "optimizer.sparse.name": "sgd, adagrad, rowwise_adagrad, ...",
    },
    examples=(
        "dlrm bench train workload=w1 optimizer.sparse.name=sgd "
        "optimizer.dense.name=SGD output=w1.json",
        "dlrm bench train workload=w2 steps=8 model=dlrm_dcnv2 model.cross_rank=512",
        "dlrm bench train data=clicks baseline='python my_loop.py'",
        "dlrm bench prepare rows=2000000",
        "dlrm bench auc rows=10000000",
    ),
)
VOID = 75
"""The exit code of a measurement that noise has made worthless: try again."""
_COMMON = {"what", "rounds", "output"}
_Found = tuple[dict[str, Any], str]
_Batches = tuple[Callable[..., dict[str, Any]], Callable[[dict[str, Any]], str]]
"""What measures turns of batches, and what writes its figures as lines."""


@dataclass(frozen=True, slots=True)
class _Measure:
    """One thing that can be measured."""

    run: Callable[[Arguments, int], _Found]
    num_rounds: int
    keys: frozenset[str] = frozenset()
    """Beside those that all have."""
    has_settings: bool = True


def main(argv: list[str]) -> int:
    """Run the command."""
    if argv[:1] == ["serve"]:
        return _serve(*argv[1:])
    arguments = parse(argv, HELP.keys, positional="what")
    what = arguments.values.get("what")
    if what not in _MEASURES:
        raise ConfigError(
            f"dlrm bench measures {', '.join(_MEASURES)}, but got "
            f"{what or 'nothing'}. Type {HELP.examples[0]}"
        )
    measure = _MEASURES[what]
    _check_keys(what, measure, arguments)
    num_rounds = _whole_number(arguments, "rounds", default=measure.num_rounds, least=2)
    for key in ("output", "roofline"):
        if key in arguments.values:
            check_folder_of(Path(arguments.values[key]))
    import_code(arguments.code)
    figures, lines = measure.run(arguments, num_rounds)
    print(lines)
    output = arguments.values.get("output")
    if output is not None:
        Path(output).write_text(json.dumps(figures, indent=2) + "\n")
    return VOID if figures.get("void") else 0


def _check_keys(what: str, measure: _Measure, arguments: Arguments) -> None:
    allowed = _COMMON | measure.keys
    for key in arguments.values:
        if key not in allowed:
            raise ConfigError(
                f"{key} is no key of dlrm bench {what}, which has "
                f"{', '.join(sorted(allowed - {'what'}))}. Drop it."
            )
    if arguments.overrides and not measure.has_settings:
        raise ConfigError(
            f"dlrm bench {what} has no settings, but got {arguments.overrides[0]}. Its "
            f"keys are {', '.join(sorted(allowed - {'what'}))}."
        )


def _train(arguments: Arguments, num_rounds: int) -> _Found:
    num_steps = _whole_number(arguments, "steps", default=30, least=1)
    config = compose(arguments.overrides)
    against = arguments.values.get("against")
    picture = _picture(arguments)

    from dlrm.bench.roofline import draw_roofline
    from dlrm.bench.train import TrainingBench, bench_training
    from dlrm.bench.train_table import format_training

    options = TrainingBench(
        num_rounds=num_rounds,
        num_steps=num_steps,
        against=None if against is None else _names(against),
        baseline=arguments.values.get("baseline"),
        code=tuple(arguments.code),
    )
    figures = bench_training(config, options, report=print)
    lines = format_training(figures)
    if picture is not None:
        picture.write_text(draw_roofline(figures), encoding="utf-8")
        lines += f"\n\nroofline {picture}"
    return figures, lines


def _picture(arguments: Arguments) -> Path | None:
    named = arguments.values.get("roofline") or arguments.values.get("output")
    if named is None:
        return None
    return Path(named) if "roofline" in arguments.values else Path(f"{named}.svg")


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


def _loading() -> _Batches:
    from dlrm.bench.load import bench_loading, format_loading

    return bench_loading, format_loading


def _evaluation() -> _Batches:
    from dlrm.bench.evaluate import bench_evaluation, format_evaluation

    return bench_evaluation, format_evaluation


def _of_batches(
    imported: Callable[[], _Batches], arguments: Arguments, num_rounds: int
) -> _Found:
    num_steps = _whole_number(arguments, "steps", default=100, least=1)
    config = compose(arguments.overrides)
    # Imports torch, once no setting is a mistake.
    bench, as_lines = imported()
    figures = bench(
        config,
        num_rounds=num_rounds,
        num_steps=num_steps,
        code=tuple(arguments.code),
        report=print,
    )
    return figures, as_lines(figures)


def _checkpoint(arguments: Arguments, num_rounds: int) -> _Found:
    config = compose(arguments.overrides)

    from dlrm.bench.checkpoint import bench_checkpoints, format_checkpoints

    figures = bench_checkpoints(
        config, num_rounds=num_rounds, code=tuple(arguments.code), report=print
    )
    return figures, format_checkpoints(figures)


def _prepare(arguments: Arguments, num_rounds: int) -> _Found:
    num_rows = _whole_number(arguments, "rows", default=2_000_000, least=1000)
    their_rows = _whole_number(arguments, "their_rows", default=500_000, least=1000)
    config = compose(["data=criteo_kaggle", *arguments.overrides])

    from dlrm.bench.prepare import bench_preparation, format_preparation

    figures = bench_preparation(
        config,
        num_rows=num_rows,
        their_rows=their_rows,
        num_rounds=num_rounds,
        report=print,
        exponent=_skew(arguments),
    )
    return figures, format_preparation(figures)


def _start(arguments: Arguments, num_rounds: int) -> _Found:
    num_rows = _whole_number(arguments, "rows", default=200_000, least=1000)
    config = compose(arguments.overrides or ["workload=w1"])

    from dlrm.bench.start import bench_start, format_start

    figures = bench_start(
        config, num_rows=num_rows, num_rounds=num_rounds, report=print
    )
    return figures, format_start(figures)


def _auc(arguments: Arguments, num_rounds: int) -> _Found:
    num_rows = _whole_number(arguments, "rows", default=10_000_000, least=1000)

    from dlrm.bench.auc import bench_auc, format_auc

    figures = bench_auc(num_rows=num_rows, num_rounds=num_rounds, report=print)
    return figures, format_auc(figures)


def _serve(verb: str, folder: str) -> int:
    """Be one of our own contestants, imported as ``dlrm train`` imports."""
    import_torch()

    from dlrm.bench.case import BenchCase
    from dlrm.bench.serving import LOOPS

    LOOPS[verb](BenchCase.load(Path(folder), import_code))
    return 0


def _skew(arguments: Arguments) -> float:
    text = arguments.values.get("skew", "1.05")
    try:
        skew = float(text)
    except ValueError:
        skew = math.nan
    if not 0 < skew <= 4 or skew == 1:
        raise ConfigError(
            f"skew must be a number in (0, 4] other than 1, but it is '{text}'."
        )
    return skew


def _whole_number(arguments: Arguments, key: str, *, default: int, least: int) -> int:
    text = arguments.values.get(key, str(default))
    # Not isdigit: that takes digits which int does not.
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ConfigError(
            f"{key} must be a whole number >= {least}, but it is '{text}'."
        )
    return int(text)


_MEASURES = {
    "train": _Measure(
        _train, 15, frozenset({"steps", "against", "baseline", "roofline"})
    ),
    "prepare": _Measure(_prepare, 3, frozenset({"rows", "their_rows", "skew"})),
    "load": _Measure(partial(_of_batches, _loading), 15, frozenset({"steps"})),
    "evaluate": _Measure(partial(_of_batches, _evaluation), 15, frozenset({"steps"})),
    "checkpoint": _Measure(_checkpoint, 5),
    "start": _Measure(_start, 5, frozenset({"rows"})),
    "auc": _Measure(_auc, 5, frozenset({"rows"}), has_settings=False),
}
