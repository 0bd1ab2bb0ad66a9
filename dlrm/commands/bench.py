"""``dlrm bench``: this machine's speed beside its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dlrm.commands.arguments import Arguments, CommandHelp, check_folder_of, parse
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError

HELP = CommandHelp(
    name="bench",
    summary="Measure this machine's speed",
    usage="train workload=w1 [rounds=15] [output=FILE] [key=value ...] | auc [rows=N]",
    description=(
        "train: the real loop, from a dataset on disk with shuffling, logging and "
        "checkpoints on, in interleaved rounds with a bare loop over fbgemm's CPU "
        "tables whose batches are already in memory. The bare loop runs twice a "
        "round: its ratio to itself is the noise. auc: the exact AUC of many scores "
        "in interleaved rounds with scikit-learn's, where that is installed."
    ),
    keys={
        "what": "what to measure: train or auc",
        "rounds": "interleaved rounds; where not given 15 of train and 5 of auc",
        "rows": "auc: the number of scores, 10000000 where not given",
        "output": "a file for the figures as JSON",
    },
    settings={
        "workload": "w1 (26 one-hot tables) or w2 (long bags)",
        "optimizer.sparse.name": "sgd, adagrad or rowwise_adagrad",
    },
    examples=(
        "dlrm bench train workload=w1 optimizer.sparse.name=sgd",
        "dlrm bench train workload=w2 rounds=20 output=w2.json",
        "dlrm bench auc rows=10000000",
    ),
)
_MEASURED = ("train", "auc")
_LEAST_ROWS = 1000


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys, positional="what")
    what = arguments.values.get("what")
    if what not in _MEASURED:
        raise ConfigError(
            f"dlrm bench measures {' or '.join(_MEASURED)}, but got "
            f"{what or 'nothing'}. Type {HELP.examples[0]}"
        )
    output = arguments.values.get("output")
    if output is not None:
        check_folder_of(Path(output))
    measure = _train if what == "train" else _auc
    figures, lines = measure(arguments)
    print(lines)
    if output is not None:
        Path(output).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _train(arguments: Arguments) -> tuple[dict[str, Any], str]:
    num_rounds = _whole_number(arguments, "rounds", default=15, least=2)
    if "rows" in arguments.values:
        raise ConfigError(
            "rows is the number of scores of dlrm bench auc, but train was asked for. "
            "Drop it: the workload says how many rows there are."
        )
    config = compose(arguments.overrides)

    from dlrm.bench.train import bench_training, format_training

    figures = bench_training(config, num_rounds=num_rounds, report=print)
    return figures, format_training(figures)


def _auc(arguments: Arguments) -> tuple[dict[str, Any], str]:
    num_rounds = _whole_number(arguments, "rounds", default=5, least=2)
    num_rows = _whole_number(arguments, "rows", default=10_000_000, least=_LEAST_ROWS)
    if arguments.overrides:
        raise ConfigError(
            f"dlrm bench auc has no settings, but got {arguments.overrides[0]}. Its "
            "keys are rows, rounds and output."
        )

    from dlrm.bench.auc import bench_auc, format_auc

    figures = bench_auc(num_rows=num_rows, num_rounds=num_rounds, report=print)
    return figures, format_auc(figures)


def _whole_number(arguments: Arguments, key: str, *, default: int, least: int) -> int:
    text = arguments.values.get(key, str(default))
    # Not isdigit: that takes digits which int does not.
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ConfigError(
            f"{key} must be a whole number >= {least}, but it is '{text}'."
        )
    return int(text)
