"""The verbs of the command line are functions of the package."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import dlrm
from tests.runs import ClicksRun, clicks_overrides


def test_there_is_a_function_for_each_verb():
    for name in ("prepare", "train", "resume", "evaluate", "compare", "predict"):
        verb = getattr(dlrm, name)
        assert callable(verb)
        assert verb.__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'fly'"):
        dlrm.fly  # noqa: B018


def test_a_frame_goes_from_raw_rows_to_probabilities(
    tmp_path: Path, clicks: ClicksRun, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(clicks.folder)
    frame = clicks.frame.head(600)
    settings = [
        text for text in clicks_overrides(tmp_path) if not text.startswith("output=")
    ]
    settings.append("data.source=null")
    data = [text for text in settings if text.startswith("data")]

    folder = dlrm.prepare(*data, frame=frame)
    assert (folder / "schema.json").is_file()

    lines: list[str] = []
    run = dlrm.train(*settings, f"output={tmp_path}", frame=frame, report=lines.append)
    assert Path(run.manifest()["dataset"]) == folder.resolve()
    assert sum(split.num_rows for split in run.schema.splits.values()) == 600

    metrics = dlrm.evaluate(run.folder, split="valid", report=lines.append)
    saved = (run.evaluation("valid") / "metrics.json").read_text()
    assert metrics == json.loads(saved)

    scores = dlrm.predict(run.folder, frame)
    assert len(scores) == 600
    assert scores["probability"].between(0, 1).all()


def test_splits_can_come_as_frames_of_their_own(
    tmp_path: Path, clicks: ClicksRun, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(clicks.folder)
    rows = clicks.frame
    parts: dict[str, pd.DataFrame] = {
        "train": rows[:300], "valid": rows[300:400], "test": rows[400:450],
    }  # fmt: skip
    settings = [*clicks_overrides(tmp_path), "data.split=source", "data.source=null"]
    run = dlrm.train(*settings, frame=parts, report=lambda line: None)
    sizes = {name: split.num_rows for name, split in run.schema.splits.items()}
    assert sizes == {"train": 300, "valid": 100, "test": 50}
