"""``dlrm bench`` refuses what it cannot measure, and writes its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlrm.commands.main import main

FIGURES = {
    "examples_per_second": {"dlrm": 2.0, "bare": 1.0},
    "dlrm_to_bare": {"median": 2.0, "low": 2.0, "high": 2.0},
    "bare_to_itself": {"median": 1.0, "low": 1.0, "high": 1.0},
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "dlrm bench measures train, but got nothing"),
        (["predict"], "dlrm bench measures train, but got predict"),
        (["train"], "needs workload=w1 or workload=w2"),
        (["train", "rounds=1", "workload=w1"], "whole number >= 2, but it is '1'"),
        (["train", "rounds=ten", "workload=w1"], "whole number >= 2, but it is 'ten'"),
        (["train", "workload=w3"], "w3"),
        (["train", "workload=w1", "output=no/f.json"], "but no does not. Make it"),
        (["train", "workload=w1", "trainer.sed=1"], "Did you mean trainer.seed"),
    ],
)
def test_what_cannot_be_measured_is_one_message_before_anything_is_written(
    workdir: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("dlrm bench: error: ")
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert list(workdir.iterdir()) == []


def test_figures_are_printed_and_written(
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    asked: list[int] = []

    def bench_training(config: object, *, num_rounds: int, report: object) -> object:
        asked.append(num_rounds)
        return FIGURES

    monkeypatch.setattr("dlrm.bench.train.bench_training", bench_training)
    line = ["bench", "train", "workload=w1", "rounds=3", "output=figures.json"]
    assert main(line) == 0
    assert asked == [3]
    assert json.loads(Path("figures.json").read_text()) == FIGURES
    assert "dlrm / bare 2.000" in capsys.readouterr().out
