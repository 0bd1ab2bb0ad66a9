"""``dlrm compare`` from runs and files to a folder of results, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import dlrm
from dlrm.commands.compare import _model_name
from dlrm.commands.main import main
from tests.comparison.files import frame, write_run
from tests.runs import digest

FEW = "draws=20"


def run(*arguments: str) -> int:
    return main(["compare", *arguments])


@pytest.fixture
def models(workdir: Path) -> Path:
    """Write two runs of a model, and another framework's CSV of the same rows."""
    for seed in (1, 2):
        write_run(workdir / f"dcnv2-{seed}", frame(seed=seed), group="user")
    write_run(workdir / "dlrm", frame(skill=0.5), group="user")
    theirs = frame(skill=0.2, seed=9)[["row", "label", "probability"]]
    theirs.columns = ["row", "clicked", "p"]
    theirs.sample(frac=1, random_state=0).to_csv(workdir / "theirs.csv", index=False)
    return workdir


def result_in(folder: Path) -> dict:
    return json.loads((folder / "comparison.json").read_text())


def test_runs_and_files_of_other_names_are_compared(
    models: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = (
        "baseline=dlrm", "candidate=dcnv2-*", "candidate=theirs.csv", "label=clicked",
        "probability=p", "slices=device", FEW,
    )  # fmt: skip
    assert run(*arguments) == 0
    folder = models / "outputs/comparisons/dcnv2-theirs-against-dlrm"
    assert sorted(path.name for path in folder.iterdir()) == [
        "comparison.json", "report.html", "report.md",
    ]  # fmt: skip
    found = result_in(folder)
    assert [entry["name"] for entry in found["models"]] == ["dlrm", "dcnv2", "theirs"]
    assert [len(entry["seeds"]) for entry in found["models"]] == [1, 2, 1]
    assert found["group"] == "user"
    printed = capsys.readouterr().out
    assert "dcnv2 against dlrm" in printed
    assert str(folder.relative_to(models) / "report.html") in printed
    for entry in found["comparisons"]:
        assert entry["verdict"][0] in (folder / "report.md").read_text()
    before = digest(folder)
    assert run(*arguments) == 0
    assert digest(folder) == before


def test_the_python_function_returns_what_is_written(models: Path):
    lines: list[str] = []
    found = dlrm.compare(
        "dlrm",
        [["dcnv2-1", "dcnv2-2"]],
        names=["old", "new"],
        group="none",
        draws=20,
        output="here",
        report=lines.append,
    )
    assert found == result_in(models / "here")
    assert found["group"] is None
    assert found["comparisons"][0]["candidate"] == "new"
    assert lines[0].startswith("400 rows")
    again = dlrm.compare("dlrm", "theirs.csv", label="clicked", probability="p",
                         draws=20, report=lines.append)  # fmt: skip
    assert again["models"][1]["name"] == "theirs"


def test_seeds_may_be_listed(models: Path):
    assert run("baseline=dcnv2-1;dcnv2-2", "candidate=dlrm", "output=a", FEW) == 0
    assert len(result_in(models / "a")["models"][0]["seeds"]) == 2


def test_a_run_against_itself_differs_by_nothing(models: Path):
    assert run("baseline=dlrm", "candidate=dlrm", "output=a", FEW) == 0
    found = result_in(models / "a")
    assert [entry["name"] for entry in found["models"]] == ["dlrm", "dlrm (2)"]
    for difference in found["comparisons"][0]["differences"].values():
        assert difference["difference"] == 0.0
        assert difference.get("low", 0.0) == difference.get("high", 0.0) == 0.0
        assert difference.get("p_value", 1.0) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline=dlrm"], "baseline and candidate must be set"),
        (["baseline=dlrm", "candidate="], "baseline and candidate must be set"),
        (["baseline=dlrm", "candidate=gone-*"], "gone-* matches none"),
        (["baseline=dlrm", "candidate=gone"], "gone does not exist"),
        (["baseline=dlrm", "candidate=dcnv2-1", "split=valid"], "split=valid"),
        (["baseline=dlrm", "candidate=dcnv2-1", "seed=x"], "seed must be a whole"),
        (["baseline=dlrm", "candidate=dcnv2-1", "draws=1"], "at least 2, but it is"),
        (["baseline=dlrm", "candidate=dcnv2-1", "names=a"], "must be 2 names"),
        (["baseline=dlrm", "candidate=dcnv2-1", "names=a;a"], "that differ"),
        (["baseline=dlrm", "candidate=dcnv2-1", "foo=1"], "but got foo=1"),
        (["baseline=dlrm", "candidate=dcnv2-1", "name=../a"], "name must be letters"),
        (["baseline=dlrm", "candidate=dcnv2-1", "name=a", "output=b"], "Either name"),
        (["baseline=dlrm", "candidate=dcnv2-1", "output=dlrm"], "something else"),
        (["baseline=dlrm", "candidate=dcnv2-1", "slices=country"], "'country' must"),
        (["baseline=dlrm", "candidate=dcnv2-1", "slices=a*b*c"], "slices must be"),
        (["baseline=dlrm", "candidate=dcnv2-1", "slices=time:day"], "time must"),
        (
            [
                "baseline=theirs.csv",
                "candidate=theirs.csv",
                "label=clicked",
                "probability=p",
                "slices=activity",
            ],
            "group must",
        ),
        (["baseline=dlrm", "baseline=dlrm"], "baseline must be given once"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    models: Path, capsys: pytest.CaptureFixture[str], arguments, message
):
    before = digest(models)
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert digest(models) == before


def test_other_rows_are_refused(models: Path, capsys: pytest.CaptureFixture[str]):
    write_run(models / "other", frame(num_rows=390))
    assert run("baseline=dlrm", "candidate=other") == 2
    assert "10 of dlrm/evaluation" in capsys.readouterr().err


def test_slices_by_time_take_their_column(models: Path):
    for name in ("a", "b"):
        content = frame(seed=len(name)).assign(at=1_700_000_000)
        content.loc[:199, "at"] += 86_400
        content.to_parquet(models / f"{name}.parquet")
    assert run("baseline=a.parquet", "candidate=b.parquet", "slices=time:day",
               "time=at", "output=out", FEW) == 0  # fmt: skip
    (cut,) = result_in(models / "out")["comparisons"][0]["slices"]
    assert [part["rows"] for part in cut["slices"]] == [200, 200]


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["outputs/dnn-0", "outputs/dnn-1"], "dnn"),
        (["dnn-10", "dnn-11"], "dnn"),
        (["20260131-101500-clicks-dlrm", "20260131-111500-clicks-dlrm"], "clicks-dlrm"),
        (["abc", "xyz"], "abc"),
        (["run/evaluation/test/predictions.parquet"], "run"),
        (["scores.v2.csv"], "scores"),
    ],
)
def test_a_model_is_called_what_its_seeds_share(paths: list[str], name: str):
    assert _model_name([Path(path) for path in paths]) == name
