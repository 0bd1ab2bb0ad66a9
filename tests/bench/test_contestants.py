"""Contestants are processes that take turns; what waits costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dlrm.bench.contestants import Contestant, run_rounds, started
from dlrm.config.errors import RunError

LOOP = """
import sys, time
for line in sys.stdin:
    if line.strip() == "go":
        time.sleep({seconds})
        open({log!r}, "a").write({name!r})
        print("a word of its own")
        print("done {examples}", flush=True)
"""


def command(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def loop(
    log: Path, name: str, *, examples: int = 10, seconds: float = 0.0
) -> list[str]:
    text = LOOP.format(log=str(log), name=name, examples=examples, seconds=seconds)
    return command(text)


def test_turns_are_counted_and_never_overlap(tmp_path: Path):
    log = tmp_path / "log"
    commands = {"a": loop(log, "a", seconds=0.02), "b": loop(log, "b", examples=30)}
    with started(commands) as contestants:
        rounds = run_rounds(contestants, num_rounds=3)
    # One turn each to warm up, one round that does not count, then three that do.
    assert log.read_text() == "ab" + "ab" + "ba" + "ab" + "ba"
    assert rounds.examples["a"].tolist() == [10] * 3
    assert rounds.examples["b"].tolist() == [30] * 3
    assert (rounds.seconds["a"] >= 0.02).all()
    per_example = rounds.seconds_an_example("a")
    np.testing.assert_allclose(per_example, rounds.seconds["a"] / 10)


def test_a_contestant_that_waits_by_turning_in_circles_is_seen(tmp_path: Path):
    spinning = (
        "import sys, threading\n"
        "threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True)"
        ".start()\n"
        "for line in sys.stdin: print('done 1', flush=True)"
    )
    calm = loop(tmp_path / "log", "a", seconds=0.1)
    with started({"calm": calm, "spinning": command(spinning)}) as contestants:
        rounds = run_rounds(contestants, num_rounds=4)
    assert rounds.idle_share > 0.2
    with started({"calm": calm, "other": calm}) as contestants:
        rounds = run_rounds(contestants, num_rounds=4)
    assert rounds.idle_share < 0.05


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import sys; sys.exit('no such file')",
            "ended with code 1. Its last words: no such file",
        ),
        ("input(); print('hello')", "ended with code 0. Its last words: none"),
        ("input(); print('done 0', flush=True); input()", "answered 'done 0'"),
    ],
)
def test_a_contestant_that_breaks_the_rules_is_named(text: str, message: str):
    with (
        pytest.raises(RunError, match=f"^baseline must .*{message}"),
        started({"baseline": command(text)}),
    ):
        pass


def test_a_command_that_cannot_be_started_is_named():
    with pytest.raises(RunError, match="'no-such-program' cannot: No such file"):
        Contestant("baseline", ["no-such-program"])


def test_a_process_is_gone_when_its_measurement_ends(tmp_path: Path):
    text = "import sys, time\nfor l in sys.stdin: print('done 1', flush=True)"
    contestant = Contestant("a", command(text))
    contestant.turn()
    process = contestant._process
    contestant.close()
    assert process.poll() is not None


def test_our_own_are_asked_questions():
    text = (
        "from dlrm.bench.protocol import serve\n"
        "serve(lambda: 7, {'double': lambda value: 2 * value})"
    )
    contestant = Contestant("ours", command(text))
    assert contestant.turn() == 7
    assert contestant.ask("double", 21) == 42
    contestant.close()
