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
        ([], "dlrm bench measures train or auc, but got nothing"),
        (["predict"], "dlrm bench measures train or auc, but got predict"),
        (["train"], "needs workload=w1 or workload=w2"),
        (["train", "rounds=1", "workload=w1"], "whole number >= 2, but it is '1'"),
        (["train", "rounds=ten", "workload=w1"], "whole number >= 2, but it is 'ten'"),
        (["train", "workload=w3"], "w3"),
        (["train", "workload=w1", "rows=5"], "the number of scores of dlrm bench auc"),
        (["auc", "rows=10"], "rows must be a whole number >= 1000, but it is '10'"),
        (["auc", "rows=1e7"], "rows must be a whole number >= 1000, but it is '1e7'"),
        (["auc", "seed=1"], "dlrm bench auc has no settings, but got seed=1"),
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


def test_the_speed_of_auc_is_printed_and_written(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    line = ["bench", "auc", "rows=2000", "rounds=2", "output=auc.json"]
    assert main(line) == 0
    figures = json.loads(Path("auc.json").read_text())
    assert (figures["rows"], figures["rounds"]) == (2000, 2)
    assert len(figures["cases"]) == 5
    for found in figures["cases"].values():
        assert abs(found["difference"]) < 1e-9
        ratio = found["times_as_fast"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert "times as fast, 95 % interval [" in capsys.readouterr().out


def test_without_scikit_learn_the_seconds_stand_alone(
    workdir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench", "auc", "rows=1000", "rounds=2"]) == 0
    assert "scikit-learn is not installed" in capsys.readouterr().out
