"""What the smaller measurements share: a case on disk and contestants beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlrm.bench.case import BenchCase, make_case
from dlrm.bench.contestants import Contestant, run_rounds, started
from dlrm.bench.machine import describe_machine
from dlrm.bench.peers import peer_command
from dlrm.bench.train import AGAIN, OURS, compare, our_command
from dlrm.config.root import Config


@contextmanager
def case_on_disk(
    config: Config,
    *,
    num_steps: int,
    code: tuple[Path, ...],
    report: Callable[[str], None],
) -> Iterator[tuple[BenchCase, Path]]:
    """Give a case and its folder, which is removed afterwards, runs and all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = make_case(
            config,
            output=folder / "runs",
            num_steps=num_steps,
            code=code,
            report=report,
        )
        case.save(folder)
        yield case, folder


def bench_beside(
    config: Config,
    *,
    verb: str,
    peer: str,
    has_peer: Callable[[BenchCase], bool],
    ask: Callable[[Contestant], dict[str, Any]],
    num_rounds: int,
    num_steps: int,
    code: tuple[Path, ...],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure our loop of ``verb`` in interleaved rounds beside a peer's, if any.

    Returns:
        The figures, and behind them what ``ask`` got from our loop after the rounds.
    """
    machine = describe_machine()
    with case_on_disk(config, num_steps=num_steps, code=code, report=report) as found:
        case, folder = found
        peers = [peer] if has_peer(case) else []
        commands = {OURS: our_command(verb, folder)}
        for name in peers:
            commands[name] = commands[f"{name}{AGAIN}"] = peer_command(name, folder)
        report("Warming up ...")
        with started(commands) as contestants:
            report(f"{num_rounds} rounds ...")
            rounds = run_rounds(contestants, num_rounds=num_rounds)
            facts = contestants[OURS].ask("facts")
            answers = ask(contestants[OURS])
    return {
        "measured": verb,
        "case": case.name,
        "machine": machine,
        "facts": facts,
        "num_rounds": num_rounds,
        **compare(rounds, peers),
        **answers,
    }
