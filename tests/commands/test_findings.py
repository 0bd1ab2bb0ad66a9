"""What the data contract finds reaches whoever evaluates or scores new rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.main import main
from dlrm.commands.predict import predict
from dlrm.config.errors import DataError
from dlrm.run import Run
from tests.runs import ClicksRun


@pytest.fixture
def run(clicks: ClicksRun, tmp_path: Path) -> Run:
    shutil.copytree(clicks.run.folder, tmp_path / "run")
    return replace(clicks.run, folder=tmp_path / "run")


@pytest.fixture
def rows(clicks: ClicksRun, tmp_path: Path) -> Path:
    """New rows of which a third lack their price."""
    frame = clicks.frame.iloc[:600].copy()
    frame.loc[frame.index[::3], "price"] = ""
    frame.to_csv(tmp_path / "monday.csv", index=False)
    return tmp_path / "monday.csv"


def test_a_warning_is_printed_once_stored_and_shown(
    run: Run, rows: Path, capsys: pytest.CaptureFixture[str]
):
    evaluate(run.folder, input=rows, report=lambda line: None)
    printed = capsys.readouterr().err
    assert printed.count("Warning: missing_share: feature 'price' of the monday") == 1
    folder = run.evaluation("monday")
    found = json.loads((folder / "findings.json").read_text())
    assert "missing_share" in {finding["kind"] for finding in found}
    assert "Findings about the data" in (folder / "report.html").read_text()
    assert "Findings about the data" in (folder / "report.md").read_text()


def test_an_error_stops_evaluate_and_nothing_is_written(
    run: Run, rows: Path, capsys: pytest.CaptureFixture[str]
):
    setting = "data.checks.missing_share.severity=error"
    code = main(["evaluate", f"run={run.folder}", f"input={rows}", setting])
    assert code == 2
    assert "error: missing_share: feature 'price'" in capsys.readouterr().err
    assert not run.evaluation("monday").exists()


def test_an_error_stops_predict_and_nothing_is_written(run: Run, rows: Path):
    setting = "data.checks.missing_share.severity=error"
    target = rows.parent / "scores.csv"
    files = [f"run={run.folder}", f"input={rows}", f"output={target}"]
    assert main(["predict", *files, setting]) == 2
    assert not target.exists()
    assert main(["predict", *files]) == 0
    assert target.exists()


def test_the_runs_own_severity_holds_in_python_too(run: Run, rows: Path):
    path = run.folder / "config.yaml"
    text = path.read_text()
    assert text.count("missing_share:\n      severity: warn") == 1
    text = text.replace(
        "missing_share:\n      severity: warn", "missing_share:\n      severity: error"
    )
    path.write_text(text)
    with pytest.raises(DataError, match="missing_share: feature 'price'"):
        predict(run.folder, rows)


def test_other_settings_stay_the_runs_own(
    run: Run, rows: Path, capsys: pytest.CaptureFixture[str]
):
    files = [f"run={run.folder}", f"input={rows}", "data.label=x"]
    assert main(["evaluate", *files]) == 2
    assert "got data.label=x" in capsys.readouterr().err
