"""``dlrm evaluate``: the promised keys, the promised rows, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.main import main
from dlrm.config.errors import DataError
from dlrm.run import Run, open_dataset, open_run
from tests.runs import CLICKS, ClicksRun, digest

ALWAYS = {
    "num_examples", "num_positives", "auc", "log_loss", "normalized_entropy", "brier",
    "calibration", "ece", "pr_auc", "accuracy", "rig", "brier_reliability",
    "brier_resolution", "brier_uncertainty", "brier_within_bin", "ece_equal_width",
    "ece_debiased", "top_decile_capture", "lift_top_decile", "precision_at_0_5",
    "recall_at_0_5", "f1_at_0_5", "intervals",
}  # fmt: skip
GROUPED = {
    "gauc", "gauc_num_groups", "gauc_num_groups_left_out", "gauc_num_rows_left_out",
    "gauc_by_clicks", "ndcg_at_10", "mrr", "hit_rate_at_10",
}  # fmt: skip


@pytest.fixture
def copied(tmp_path: Path, clicks: ClicksRun) -> Run:
    """Return a copy of the run on clicks.csv, to write results into."""
    return open_run(Path(shutil.copytree(clicks.run.folder, tmp_path / "copied")))


def predictions(run: Run, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.evaluation(name) / "predictions.parquet")


def saved_metrics(run: Run, name: str) -> dict[str, object]:
    return json.loads((run.evaluation(name) / "metrics.json").read_text())


def quiet(line: str) -> None:
    del line


def test_metrics_have_the_promised_keys(copied: Run):
    metrics = evaluate(copied.folder, split="valid", report=quiet)
    assert set(metrics) - {"undefined"} == ALWAYS | GROUPED
    assert metrics["num_examples"] == copied.schema.num_rows("valid")
    assert saved_metrics(copied, "valid") == metrics


def test_the_built_in_log_adds_the_best_possible(trained: Run):
    metrics = saved_metrics(trained, "test")
    assert set(metrics) - {"undefined"} == ALWAYS | GROUPED | {"bayes"}


def test_predictions_are_row_for_row_with_the_split(clicks: ClicksRun):
    found = predictions(clicks.run, "test")
    assert list(found.columns[:5]) == ["row", "label", "logit", "probability", "weight"]
    dataset = open_dataset(clicks.run)
    kept = dataset.side("test").to_pandas()
    assert found["row"].tolist() == list(range(len(kept)))
    assert found["impression_id"].tolist() == kept["impression_id"].tolist()
    raw = clicks.frame.set_index("impression_id").loc[found["impression_id"]]
    assert len(raw) == len(found) == clicks.run.schema.num_rows("test")
    assert found["label"].tolist() == raw["clicked"].astype(int).tolist()
    for column in {"shop", "device"} & {*found.columns}:
        assert found[column].tolist() == raw[column].tolist()
    assert {"shop", "device"} <= {*found.columns}


def test_metrics_are_those_of_the_predictions(clicks: ClicksRun):
    found, metrics = predictions(clicks.run, "test"), saved_metrics(clicks.run, "test")
    labels, logits = found["label"].to_numpy(), found["logit"].to_numpy(np.float64)
    probabilities = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(found["probability"], probabilities, rtol=1e-6)
    clicked, passed = logits[labels == 1], logits[labels == 0]
    wins = [(p > n) + 0.5 * (p == n) for p in clicked for n in passed]
    assert metrics["auc"] == pytest.approx(np.mean(wins), rel=1e-12)
    losses = np.where(labels == 1, -np.log(probabilities), -np.log1p(-probabilities))
    assert metrics["log_loss"] == pytest.approx(losses.mean(), rel=1e-9)
    assert metrics["num_positives"] == labels.sum()


def test_a_file_of_the_splits_rows_gives_the_splits_metrics(
    copied: Run, clicks: ClicksRun, tmp_path: Path
):
    ids = predictions(clicks.run, "test")["impression_id"]
    rows = clicks.frame.set_index("impression_id").loc[ids].reset_index()
    rows.to_csv(tmp_path / "monday.csv", index=False)
    metrics = evaluate(copied.folder, input=tmp_path / "monday.csv", report=quiet)
    of_split = saved_metrics(clicks.run, "test")
    assert metrics.keys() == of_split.keys()
    assert metrics.get("undefined") == of_split.get("undefined")
    for name in metrics.keys() - {"undefined", "intervals", *metrics["undefined"]}:
        assert metrics[name] == pytest.approx(of_split[name], rel=1e-6), name
    intervals, found = of_split["intervals"], metrics["intervals"]
    assert found.keys() == intervals.keys()
    for name in intervals.keys() - {"unit"}:
        assert found[name] == pytest.approx(intervals[name], rel=1e-6), name
    assert found["unit"] == intervals["unit"] == "group"
    assert predictions(copied, "monday")["impression_id"].tolist() == ids.tolist()
    assert (copied.evaluation("monday") / "report.html").is_file()


def test_a_frame_is_evaluated_under_a_name(copied: Run, clicks: ClicksRun):
    frame = clicks.frame.head(30)
    first = evaluate(copied.folder, input=frame, report=quiet)
    second = evaluate(copied.folder, input=frame, name="mine", report=quiet)
    assert first == second == saved_metrics(copied, "mine")
    assert first["num_examples"] == 30
    assert copied.evaluation("frame").is_dir()


@pytest.mark.parametrize("grouped", [True, False])
def test_new_rows_without_the_group_column_have_no_grouped_auc_and_that_is_said(
    tmp_path: Path, trained: Run, grouped: bool
):
    run = open_run(Path(shutil.copytree(trained.folder, tmp_path / "copied")))
    random = np.random.default_rng(0)
    features = [*run.config.data.dense_features, *run.config.data.sparse_features]
    frame = pd.DataFrame({name: random.integers(0, 9, 60) for name in features})
    # Lists of ids, as the built-in log has them.
    for name in ("tags", "interests"):
        frame[name] = [[str(value)] for value in frame[name]]
    frame["click"] = random.integers(0, 2, 60)
    if grouped:
        frame["user"] = random.integers(0, 4, 60)
    lines: list[str] = []
    metrics = evaluate(run.folder, input=frame, report=lines.append)
    found = set(metrics) - {"undefined"}
    assert found == (ALWAYS | GROUPED if grouped else ALWAYS)
    said = "No grouped AUC: the rows have no column 'user'."
    assert (said in lines) is not grouped


def test_the_command_prints_metrics_and_the_reports_place(
    copied: Run, capsys: pytest.CaptureFixture[str]
):
    assert main(["evaluate", f"run={copied.folder}", "split=valid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    auc = saved_metrics(copied, "valid")["auc"]
    assert any(line.startswith("AUC") and f"{auc:.5f}" in line for line in lines)
    assert lines[-1] == f"report  {copied.evaluation('valid') / 'report.html'}"
    assert not any("No grouped AUC" in line for line in lines)


def test_a_checkpoint_can_be_chosen(copied: Run):
    names = sorted(path.name for path in copied.checkpoints.glob("step_*"))
    assert len(names) == 2
    losses = [
        evaluate(copied.folder, split="valid", checkpoint=name, report=quiet)[
            "log_loss"
        ]
        for name in names
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run must be set"),
        (["split=tset"], "split must name a split with rows, but 'tset' is none"),
        (["split=test", f"input={CLICKS}"], "Either split or input must be given"),
        (["name=mine"], "name is for the results of input"),
        (["input=nosuch.csv"], "nosuch.csv"),
        (["checkpoint=first"], "checkpoint must be best, last or one of"),
        (["trainer.seed=1"], "uses the run's own settings, but got trainer.seed=1"),
        (["splt=test"], "but got splt=test. Its keys are run, split, input"),
        (["-m"], "-m makes a sweep"),
    ],
)
def test_what_does_not_fit_is_one_message_and_changes_nothing(
    copied: Run,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    before = digest(copied.folder)
    given = [f"run={copied.folder}", *arguments] if arguments else []
    assert main(["evaluate", *given]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("dlrm evaluate: error: ")
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert digest(copied.folder) == before


def test_a_missing_run_is_told_what_a_run_is(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["evaluate", "run=outputs/nosuch"]) == 2
    assert "must hold config.yaml, but outputs/nosuch does not" in (
        capsys.readouterr().err
    )


def test_an_input_without_rows_is_refused(
    copied: Run, clicks: ClicksRun, tmp_path: Path
):
    clicks.frame.head(0).to_csv(tmp_path / "empty.csv", index=False)
    for rows in (tmp_path / "empty.csv", clicks.frame.head(0)):
        with pytest.raises(DataError, match="input must have rows"):
            evaluate(copied.folder, input=rows, report=quiet)
