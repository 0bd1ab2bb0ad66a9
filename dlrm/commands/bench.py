"""``dlrm bench``: this machine's speed beside its limits."""

from __future__ import annotations

import json
from pathlib import Path

from dlrm.commands.arguments import CommandHelp, check_folder_of, parse
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError

HELP = CommandHelp(
    name="bench",
    summary="Measure this machine's speed",
    usage="train workload=w1 [rounds=15] [output=FILE] [key=value ...]",
    description=(
        "train: the real loop, from a dataset on disk with shuffling, logging and "
        "checkpoints on, in interleaved rounds with a bare loop over fbgemm's CPU "
        "tables whose batches are already in memory. The bare loop runs twice a "
        "round: its ratio to itself is the noise."
    ),
    keys={
        "what": "what to measure: train",
        "rounds": "interleaved rounds, 15 where not given",
        "output": "a file for the figures as JSON",
    },
    settings={
        "workload": "w1 (26 one-hot tables) or w2 (long bags)",
        "optimizer.sparse.name": "sgd, adagrad or rowwise_adagrad",
    },
    examples=(
        "dlrm bench train workload=w1 optimizer.sparse.name=sgd",
        "dlrm bench train workload=w2 rounds=20 output=w2.json",
    ),
)


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parse(argv, HELP.keys, positional="what")
    what = arguments.values.get("what")
    if what != "train":
        raise ConfigError(
            f"dlrm bench measures train, but got {what or 'nothing'}. "
            f"Type {HELP.examples[0]}"
        )
    rounds = arguments.values.get("rounds", "15")
    if not rounds.isdigit() or int(rounds) < 2:
        raise ConfigError(f"rounds must be a whole number >= 2, but it is '{rounds}'.")
    output = arguments.values.get("output")
    if output is not None:
        check_folder_of(Path(output))
    config = compose(arguments.overrides)

    from dlrm.bench.train import bench_training, format_training

    figures = bench_training(config, num_rounds=int(rounds), report=print)
    print(format_training(figures))
    if output is not None:
        Path(output).write_text(json.dumps(figures, indent=2) + "\n")
    return 0
