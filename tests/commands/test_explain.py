"""``dlrm explain`` writes what it measured, says it, and refuses what does not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.explain import explain_row, importance
from dlrm.commands.main import main
from dlrm.config.errors import ConfigError
from dlrm.config.labels import LabelKind
from dlrm.config.schema import FittedSparse
from dlrm.explanation.scorer import check_clicks
from dlrm.explanation.terminal import format_health, format_importance, format_row
from dlrm.run import Run, open_dataset, open_run
from tests.runs import ClicksRun


@pytest.fixture(scope="module")
def copied(clicks: ClicksRun, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a copy of a run, to write explanations into."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(clicks.run.folder, folder)
    return open_run(folder)


def strict(path: Path) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def features(run: Run) -> set[str]:
    return {fitted.name for fitted in (*run.schema.dense, *run.schema.sparse)}


def test_importance_is_written_and_told_for_every_feature(
    copied: Run, capsys: pytest.CaptureFixture[str]
):
    assert main(["explain", f"run={copied.folder}", "repeats=2"]) == 0
    found = strict(copied.evaluation("test") / "importance.json")
    assert {entry["feature"] for entry in found["features"]} == features(copied)
    assert (found["split"], found["repeats"]) == ("test", 2)
    told = capsys.readouterr().out
    assert all(name in told for name in features(copied))
    assert "importance.json" in told


def test_the_health_of_every_table_is_written_and_told(
    copied: Run, capsys: pytest.CaptureFixture[str]
):
    assert main(["explain", f"run={copied.folder}", "what=embeddings"]) == 0
    found = strict(copied.evaluation("test") / "embeddings.json")
    told = capsys.readouterr().out
    for entry in found["tables"]:
        assert entry["rows"] == copied.schema.table_rows(entry["table"])
        assert entry["table"] in told


def test_an_evaluation_of_the_same_checkpoint_keeps_explanations(copied: Run):
    importance(copied.folder, repeats=1, rows=100, report=lambda line: None)
    path = copied.evaluation("test") / "importance.json"
    before = path.read_text()
    evaluate(copied.folder, report=lambda line: None)
    assert path.read_text() == before
    content = {**strict(path), "checkpoint": "step_000000000"}
    path.write_text(json.dumps(content))
    evaluate(copied.folder, report=lambda line: None)
    assert not path.exists()


def raw_row(run: Run, clicks: ClicksRun, row: int) -> pd.DataFrame:
    """Return the line of data/clicks.csv that a row of the test split was."""
    line = open_dataset(run).side("test", ["__row"])["__row"][row].as_py()
    # Lines are counted from 1, and the first one is the header.
    return clicks.frame.iloc[[line - 2]]


def contributions(found: dict) -> dict[str, float]:
    return {e["feature"]: e["contribution"] for e in found["features"]}


def test_a_row_of_a_split_and_the_same_raw_row_are_explained_alike(
    copied: Run, clicks: ClicksRun, tmp_path: Path
):
    from_split = explain_row(copied.folder, 5)
    raw = raw_row(copied, clicks, 5)
    rows = pd.concat([clicks.frame.iloc[:3], raw]).drop(columns="clicked")
    rows.to_csv(tmp_path / "new.csv", index=False)
    from_file = explain_row(copied.folder, 3, input=tmp_path / "new.csv")
    assert contributions(from_file) == pytest.approx(contributions(from_split))
    assert from_split["label"] == float(clicks.frame["clicked"].iloc[raw.index[0]])
    assert from_file["label"] is None
    gap = sum(contributions(from_split).values()) - (
        from_split["logit"] - from_split["mean_logit"]
    )
    assert abs(gap) < 1e-9


def test_a_rows_raw_values_stand_beside_what_the_model_was_given(
    copied: Run, clicks: ClicksRun
):
    found = {e["feature"]: e for e in explain_row(copied.folder, 0)["features"]}
    raw = raw_row(copied, clicks, 0).iloc[0]
    for fitted in (*copied.schema.dense, *copied.schema.sparse):
        entry, column = found[fitted.name], fitted.feature.column or fitted.name
        if column in copied.schema.kept_columns:
            assert entry["raw"] == (raw[column] or None)
        multi = isinstance(fitted, FittedSparse) and fitted.feature.multi_hot
        known = entry["value"][0] not in "(["
        if isinstance(fitted, FittedSparse) and not multi and known:
            assert entry["value"] == raw[column]
        elif not isinstance(fitted, FittedSparse) and raw[column]:
            assert float(entry["value"]) == pytest.approx(float(raw[column]), rel=1e-3)


def test_row_implies_what_and_can_be_written(
    copied: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "why.json"
    line = ["explain", f"run={copied.folder}", "row=2", "background=20"]
    assert main([*line, f"output={output}"]) == 0
    found = strict(output)
    assert (found["row"], found["background_rows"]) == (2, 20)
    assert "adds to the logit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["what=why"], "what must be one of importance, embeddings, row, but it is"),
        (["what=row"], "row must be set, but it is not"),
        (["row=-1"], "row must be a whole number of at least 0, but it is '-1'"),
        (["row=999999"], "row must be the number of a row of split 'test', from 0 to"),
        (["rows=0"], "rows must be a whole number of at least 1, but it is '0'"),
        (["row=1", "repeats=3"], "repeats is for what=importance, but what is row"),
        (["what=embeddings", "input=a.csv"], "input is for what=row, but what is"),
        (["split=tset"], "split must name a split with rows, but 'tset' is none"),
        (["what=embeddings", "split=../x"], "split must be one of"),
        (["what=embeddings", "table=x"], "table must be a table of the run, but 'x'"),
        (["row=1", "output=why.txt"], "output must end in .json, but it is 'why.txt'"),
        (["checkpoint=first"], "checkpoint must be best, last or one of"),
        (["model.dropout=0"], "dlrm explain uses the run's own settings, but got"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    copied: Run,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
):
    assert main(["explain", f"run={copied.folder}", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_does_not_predict_clicks_is_refused(copied: Run):
    schema = dataclasses.replace(copied.schema, label_kind=LabelKind.multiclass)
    with pytest.raises(ConfigError, match="but the run's task.name is multiclass"):
        check_clicks(dataclasses.replace(copied, schema=schema))


NAME = "[bold]price[/]\x1b[31m"


def test_names_are_told_as_they_are_and_obeyed_by_no_terminal():
    change = {
        "change": 0.1, "standard_error": 0.1, "low": -0.1, "high": 0.3,
        "covers_zero": True,
    }  # fmt: skip
    feature = {
        "feature": NAME, "kind": "sparse", "log_loss": change, "auc": None,
        "lookups_per_row": 1.0, "bytes": 10, "freed_bytes": 10, "gain_per_mib": 1.0,
    }  # fmt: skip
    shown = format_importance(
        {
            "features": [feature], "rows": 5, "split_rows": 5, "repeats": 1,
            "num_clusters": None,
            "prune": [{"feature": NAME, "reason": "none", "freed_bytes": 10}],
        }
    )  # fmt: skip
    assert shown.count("[bold]price") == 2
    table = {
        "table": NAME, "rows": 5, "dim": 1, "weight_bytes": 20, "state_bytes": 0,
        "never_trained": None, "norms": None, "zero_rows": 0, "tiny_rows": 0,
        "duplicate_rows": 0, "effective_rank": None, "collisions": None,
        "unknown": {"never_trained": "reason"},
    }  # fmt: skip
    healthy = format_health({"tables": [table], "warnings": [NAME]})
    row = format_row(
        {
            "probability": 0.5, "logit": 0.0, "label": None, "background": "test",
            "background_rows": 2, "mean_logit": 0.0,
            "features": [
                {
                    "feature": NAME, "value": "a", "raw": NAME,
                    "contribution": 0.0, "standard_error": 0.0,
                }
            ],
        }
    )  # fmt: skip
    for text in (shown, healthy, row):
        assert "\x1b" not in text
        assert "[bold]" in text
