"""``dlrm bench`` refuses what it cannot measure, and writes its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlrm.bench.train import TrainingBench
from dlrm.commands.main import main
from tests.bench.figures import training_figures
from tests.bench.tiny import SETTINGS, write_preset


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "measures train, prepare, load, evaluate, checkpoint, start, auc, but got",
        ),
        (["predict"], "start, auc, but got predict. Type dlrm bench train"),
        (["train", "rounds=1", "workload=w1"], "whole number >= 2, but it is '1'"),
        (["train", "rounds=ten", "workload=w1"], "whole number >= 2, but it is 'ten'"),
        (["train", "steps=0", "workload=w1"], "whole number >= 1, but it is '0'"),
        (["train", "workload=w3"], "w3"),
        (["train", "workload=w1", "rows=5"], "rows is no key of dlrm bench train"),
        (["auc", "steps=5"], "steps is no key of dlrm bench auc, which has output"),
        (["auc", "rows=10"], "rows must be a whole number >= 1000, but it is '10'"),
        (["auc", "rows=1e7"], "rows must be a whole number >= 1000, but it is '1e7'"),
        (["auc", "seed=1"], "dlrm bench auc has no settings, but got seed=1"),
        (["prepare", "their_rows=5"], "their_rows must be a whole number >= 1000"),
        (["start", "data=synthetic"], "needs workload=w1 or workload=w2"),
        (["train", "workload=w1", "output=no/f.json"], "but no does not. Make it"),
        (["train", "workload=w1", "roofline=no/f.svg"], "but no does not. Make it"),
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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TrainingBench]:
    """Measure nothing, and return what was asked for."""
    options: list[TrainingBench] = []

    def bench_training(_: object, given: TrainingBench, *, report: object) -> object:
        options.append(given)
        return training_figures()

    monkeypatch.setattr("dlrm.bench.train.bench_training", bench_training)
    return options


def test_figures_are_printed_and_written_with_a_picture(
    workdir: Path, asked: list[TrainingBench], capsys: pytest.CaptureFixture[str]
):
    line = [
        "bench", "train", "workload=w1", "rounds=3", "steps=7", "against=bare",
        "baseline=python loop.py", "output=figures.json",
    ]  # fmt: skip
    assert main(line) == 0
    assert asked == [
        TrainingBench(
            num_rounds=3, num_steps=7, against=("bare",), baseline="python loop.py"
        )
    ]
    assert json.loads(Path("figures.json").read_text()) == training_figures()
    assert "<svg" in Path("figures.json.svg").read_text()
    assert "dlrm / bare            1.250" in capsys.readouterr().out


def test_yardsticks_may_be_none_and_the_picture_elsewhere(
    workdir: Path, asked: list[TrainingBench]
):
    assert main(["bench", "train", "against=none", "roofline=here.svg"]) == 0
    assert asked == [TrainingBench(against=())]
    assert {path.name for path in workdir.iterdir()} == {"here.svg"}


def test_a_void_measurement_has_an_exit_code_of_its_own(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "dlrm.bench.train.bench_training",
        lambda *_, **__: training_figures() | {"void": True},
    )
    assert main(["bench", "train"]) == 75


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["load", "steps=3"], "is spent waiting for its batch"),
        (["evaluate", "steps=3"], "metrics are"),
        (["checkpoint"], "load, checksums and all"),
        (["start", "rows=1000"], "beyond the imports"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_smaller_measurements_end_to_end(
    workdir: Path, capsys: pytest.CaptureFixture[str], line: list[str], words: str
):
    write_preset(workdir)
    code = main(["bench", *line, "rounds=2", "output=out.json", *SETTINGS])
    assert code in (0, 75)
    figures = json.loads(Path("out.json").read_text())
    assert figures["measured"] == line[0]
    assert bool(figures.get("void")) == (code == 75)
    assert words in capsys.readouterr().out
    left = {path.name for path in workdir.iterdir()}
    assert left - {"prepared"} == {"conf", "out.json"}


@pytest.mark.slow
def test_preparing_is_measured_beside_torchrecs_scripts(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    line = ["rows=3000", "their_rows=1000", "rounds=2", "output=out.json"]
    assert main(["bench", "prepare", *line]) in (0, 75)
    figures = json.loads(Path("out.json").read_text())
    assert figures["rows"]["dlrm"] == 3000
    assert figures["rows"]["torchrec's scripts"] == 1000
    assert all(peak > 0 for peak in figures["peak_bytes"].values())
    assert {path.name for path in workdir.iterdir()} == {"out.json"}


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
