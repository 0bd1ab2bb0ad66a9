"""The real training loop, from a dataset on disk, beside yardsticks in memory."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from dlrm.bench.case import BenchCase, make_case
from dlrm.bench.contestants import Contestant, Rounds, run_rounds, started
from dlrm.bench.floor import floor_of
from dlrm.bench.machine import describe_machine
from dlrm.bench.pairs import Ratio, median_of, speed_ratio
from dlrm.bench.peers import YARDSTICKS, peer_command
from dlrm.bench.yardstick import refusal
from dlrm.config.errors import ConfigError
from dlrm.config.root import Config
from dlrm.data.storage.dataset import Dataset
from dlrm.run import model_schema

OURS = "dlrm"
BASELINE = "baseline"
AGAIN = " again"
"""Behind the name of a yardstick's second process."""
Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingBench:
    """What to measure beside the real loop, and for how long."""

    num_rounds: int = 15
    num_steps: int = 30
    """Steps of a turn."""
    against: tuple[str, ...] | None = None
    """Yardsticks; all that there are for the configuration where None."""
    baseline: str | None = None
    """A user's own command that speaks the protocol."""
    code: tuple[Path, ...] = ()


def bench_training(
    config: Config, options: TrainingBench, *, report: Report
) -> dict[str, Any]:
    """Measure the loops in interleaved rounds, then a step's parts and the limits.

    Each yardstick runs as two processes of the same code, whose ratio is the noise.

    Raises:
        UserError: A yardstick was asked for that the configuration has none of, the
            data cannot be prepared, or a baseline does not keep to the protocol.
    """
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = make_case(
            config,
            output=folder / "runs",
            num_steps=options.num_steps,
            code=options.code,
            report=report,
        )
        case.save(folder)
        yardsticks, absent = choose_yardsticks(case, options.against)
        commands = _commands(folder, yardsticks, options.baseline)
        report(f"Warming up {len(commands)} processes ...")
        with started(commands) as contestants:
            report(f"{options.num_rounds} rounds of {options.num_steps} steps ...")
            rounds = run_rounds(contestants, num_rounds=options.num_rounds)
            ours = contestants[OURS]
            # Asked first: taking steps apart must not count in the peak.
            facts = ours.ask("facts")
            report("A step in parts ...")
            split, traffic = ours.ask("split"), ours.ask("traffic")
            dot = ours.ask("dot")
        report("The machine's limits ...")
        limits = limits_of(folder, split, traffic)
    figures = {
        "measured": "train",
        "case": case.name,
        "model": config.model["name"],
        "optimizer": config.optimizer.sparse.name.value,
        "dense_optimizer": config.optimizer.dense.name,
        "machine": machine,
        "facts": facts,
        "num_rounds": options.num_rounds,
        "num_steps": options.num_steps,
        "absent": absent,
        "baseline": options.baseline,
        **compare(rounds, [*yardsticks, *([BASELINE] if options.baseline else [])]),
    }
    seconds = float(np.median(rounds.seconds_an_example(OURS))) * traffic["examples"]
    figures["split"] = {
        **split["seconds"],
        "whole": split["whole"],
        "whole_without_timers": seconds,
    }
    figures |= {"traffic": traffic, "limits": limits, "dot": dot}
    figures["floor"] = floor_of(
        seconds_a_step=seconds,
        examples_a_step=traffic["examples"],
        split=split,
        traffic=traffic,
        limits=limits,
    )
    return figures


def choose_yardsticks(
    case: BenchCase, against: Sequence[str] | None
) -> tuple[list[str], dict[str, str]]:
    """Return the yardsticks to run, and why there are no others.

    Raises:
        ConfigError: One that was asked for is not there.
    """
    schema = Dataset.open(case.dataset, verify=False).schema
    schema = model_schema(case.config, schema)
    absent = {name: refusal(name, case.config, schema) for name in YARDSTICKS}
    if against is None:
        there = [name for name, reason in absent.items() if reason is None]
        return there, {name: why for name, why in absent.items() if why is not None}
    for name in against:
        if name not in YARDSTICKS:
            raise ConfigError(
                f"against must name yardsticks ({', '.join(YARDSTICKS)}) or be none, "
                f"but it names '{name}'."
            )
        if absent[name] is not None:
            raise ConfigError(
                f"against={name}, {YARDSTICKS[name]}, has no form for this: "
                f"{absent[name]}. Leave it out, or set against=none."
            )
    return list(against), {}


def our_command(verb: str, folder: Path) -> list[str]:
    """Return the command of one of our own loops, which starts as ``dlrm`` does."""
    return [sys.executable, "-m", "dlrm", "bench", "serve", verb, str(folder)]


def _commands(
    folder: Path, yardsticks: Sequence[str], baseline: str | None
) -> dict[str, list[str]]:
    found = {OURS: our_command("train", folder)}
    for name in yardsticks:
        found[name] = found[f"{name}{AGAIN}"] = peer_command(name, folder)
    if baseline is not None:
        command = shlex.split(baseline)
        if not command:
            raise ConfigError("baseline must be a command, but it is empty.")
        found[BASELINE] = found[f"{BASELINE}{AGAIN}"] = command
    return found


def compare(rounds: Rounds, yardsticks: Sequence[str]) -> dict[str, Any]:
    """Return speeds, ratios to every yardstick, and whether the noise voids them.

    A yardstick's time is the mean of its two processes' in a round.
    """
    ratios, noise = {}, {}
    ours = rounds.seconds_an_example(OURS)
    for name in yardsticks:
        first = rounds.seconds_an_example(name)
        second = rounds.seconds_an_example(f"{name}{AGAIN}")
        ratios[name] = speed_ratio(ours, (first + second) / 2)
        noise[name] = speed_ratio(second, first)
    return {
        "contestants": {name: _speed(rounds, name) for name in rounds.seconds},
        "ratios": {name: dataclasses.asdict(found) for name, found in ratios.items()},
        "noise": {name: dataclasses.asdict(found) for name, found in noise.items()},
        "void": any(found.is_noise for found in noise.values()),
        "idle_share": rounds.idle_share,
    }


def _speed(rounds: Rounds, name: str) -> dict[str, Any]:
    speed: Ratio = median_of(1 / rounds.seconds_an_example(name))
    seconds, examples = rounds.seconds[name], rounds.examples[name]
    return {
        "examples_per_second": dataclasses.asdict(speed),
        # Counts what falls into a round now and then, such as a checkpoint.
        "overall_examples_per_second": float(examples.sum() / seconds.sum()),
        "seconds": seconds.tolist(),
        "examples": examples.tolist(),
    }


def limits_of(
    folder: Path, split: dict[str, Any], traffic: dict[str, Any]
) -> dict[str, Any]:
    """Measure the machine's limits at a model's sizes, in a process of their own."""
    sizes = {
        "gemms": split["gemms"],
        "width": traffic["width"],
        "num_rows": traffic["largest_rows"],
    }
    with closing(Contestant("limits", peer_command("limits", folder))) as process:
        found: dict[str, Any] = process.ask("limits", sizes)
    return found
