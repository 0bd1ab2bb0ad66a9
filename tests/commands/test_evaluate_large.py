"""Evaluation of more rows than may be in memory: the same metrics, part by part."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dlrm.commands import evaluating
from dlrm.commands.evaluating import evaluate_run
from dlrm.distributed.job import ALONE
from dlrm.run import Run, open_run
from tests.runs import ClicksRun

LEFT_OUT = {"intervals", "bayes"}


@pytest.fixture
def small_memory(
    tmp_path: Path, clicks: ClicksRun, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Return the run on clicks.csv, which may hold 50 rows; they are scored by 40."""
    monkeypatch.setattr(evaluating, "_ROWS_AT_ONCE", 40)
    monkeypatch.setattr("dlrm.scoring._BATCH_SIZE", 16)
    run = open_run(Path(shutil.copytree(clicks.run.folder, tmp_path / "copied")))
    limits = dataclasses.replace(run.config.evaluation, rows_in_memory=50)
    config = dataclasses.replace(run.config, evaluation=limits)
    return dataclasses.replace(run, config=config)


def evaluated(run: Run, rows: pd.DataFrame | None, name: str) -> dict[str, object]:
    return evaluate_run(
        run, rows, name=name, checkpoint="best", report=lambda _: None, job=ALONE
    )


def test_it_is_said_that_intervals_and_slices_are_left_out(small_memory: Run):
    lines: list[str] = []
    evaluate_run(
        small_memory,
        None,
        name="test",
        checkpoint="best",
        report=lines.append,
        job=ALONE,
    )
    said = (
        "Without intervals and slices: there are more rows than "
        "evaluation.rows_in_memory=50."
    )
    assert said in lines


def check_same(found: dict[str, object], whole: dict[str, object]) -> None:
    assert found.keys() == whole.keys() - LEFT_OUT
    assert found.get("undefined") == whole.get("undefined")
    for name in found.keys() - {"undefined", *found.get("undefined", {})}:
        assert found[name] == pytest.approx(whole[name], rel=1e-5), name


def test_a_split_beyond_memory_has_the_metrics_and_predictions_of_one_within(
    small_memory: Run, clicks: ClicksRun
):
    found = evaluated(small_memory, None, "test")
    earlier = clicks.run.evaluation("test")
    check_same(found, json.loads((earlier / "metrics.json").read_text()))
    folder = small_memory.evaluation("test")
    assert json.loads((folder / "metrics.json").read_text()) == found
    written = pd.read_parquet(folder / "predictions.parquet")
    expected = pd.read_parquet(earlier / "predictions.parquet")
    close = ["logit", "probability"]
    pd.testing.assert_frame_equal(written[close], expected[close], rtol=1e-4)
    for name in expected.columns.difference(close):
        assert written[name].tolist() == expected[name].tolist(), name
    assert "<svg" in (folder / "report.html").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.json",
        "predictions.parquet",
        "report.html",
        "report.md",
    ]


def test_a_file_beyond_memory_has_the_metrics_of_one_within(
    small_memory: Run, clicks: ClicksRun
):
    rows = clicks.frame.head(90)
    found = evaluated(small_memory, rows, "monday")
    roomy = dataclasses.replace(small_memory, config=clicks.run.config)
    check_same(found, evaluated(roomy, rows, "monday_whole"))
    written = pd.read_parquet(small_memory.evaluation("monday") / "predictions.parquet")
    assert written["row"].tolist() == list(range(90))
    assert (small_memory.evaluation("monday") / "outside_ids.json").is_file()
