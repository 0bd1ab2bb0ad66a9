"""``dlrm calibrate``: what it writes, what then applies it, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dlrm
from dlrm.commands.calibrate import calibrate, calibrate_after_training
from dlrm.commands.evaluate import evaluate
from dlrm.commands.main import main
from dlrm.commands.predict import predict
from dlrm.config.errors import ConfigError, RunError
from dlrm.distributed.job import ALONE
from dlrm.metrics.recalibration import recalibrator_from
from dlrm.run import Run, open_dataset, open_run
from tests.runs import ClicksRun, digest

METHODS = ("platt", "isotonic", "temperature", "beta")


def quiet(line: str) -> None:
    del line


@pytest.fixture
def copied(tmp_path: Path, clicks: ClicksRun) -> Run:
    """Return a copy of the run on clicks.csv, to write into."""
    return open_run(Path(shutil.copytree(clicks.run.folder, tmp_path / "copied")))


def predictions(run: Run, name: str) -> pd.DataFrame:
    return pd.read_parquet(run.evaluation(name) / "predictions.parquet")


@pytest.mark.parametrize("method", METHODS)
def test_the_map_is_fitted_on_valid_and_applied_to_what_is_judged(
    copied: Run, method: str
):
    before = evaluate(copied.folder, split="test", report=quiet)
    found = calibrate(copied.folder, method=method, report=quiet)
    assert found == json.loads((copied.folder / "calibration.json").read_text())
    valid = predictions(copied, "test")["logit"]
    assert found["split"] == "valid"
    assert found["num_examples"] == copied.schema.num_rows("valid")
    assert found["order"] == [method]
    assert found["keep_rate"] is None
    assert (copied.checkpoints / found["checkpoint"]).is_dir()

    after = evaluate(copied.folder, split="test", report=quiet)
    rows = predictions(copied, "test")
    assert rows["logit"].tolist() == valid.tolist()
    expected = recalibrator_from(found["recalibrator"]).apply(rows["logit"].to_numpy())
    assert rows["calibrated_logit"].tolist() == expected.tolist()
    np.testing.assert_allclose(
        rows["probability"], 1 / (1 + np.exp(-expected)), rtol=1e-12
    )
    for name in ("calibration", "ece", "log_loss"):
        assert after[f"raw_{name}"] == pytest.approx(before[name], rel=1e-12)
        assert f"raw_{name}" not in before
    if method != "isotonic":
        assert after["auc"] == before["auc"]
    promised = rows["probability"].sum() / rows["label"].sum()
    assert after["calibration"] == pytest.approx(promised, rel=1e-9)


def test_the_details_hold_both_sides_reliability(copied: Run):
    evaluate(copied.folder, split="valid", report=quiet)
    assert not (copied.evaluation("valid") / "recalibration.json").exists()
    fitted = calibrate(copied.folder, method="platt", report=quiet)
    metrics = evaluate(copied.folder, split="valid", report=quiet)
    text = (copied.evaluation("valid") / "recalibration.json").read_text()
    found = json.loads(text)
    assert found["recalibrator"] == fitted["recalibrator"]
    assert (found["order"], found["fitted_on"]) == (["platt"], "valid")
    # The likelihood's best constant makes the promised clicks those that came.
    assert found["calibrated"]["calibration"] == pytest.approx(1, rel=1e-9)
    assert found["calibrated"]["log_loss"] <= found["raw"]["log_loss"]
    rows = predictions(copied, "valid")
    for side, column in (("raw", "logit"), ("calibrated", "calibrated_logit")):
        bins = found[side]["bins"]
        assert 1 < len(bins) <= 10
        assert sum(part["weight"] for part in bins) == len(rows)
        chances = 1 / (1 + np.exp(-rows[column].to_numpy(np.float64)))
        total = sum(part["weight"] * part["mean_probability"] for part in bins)
        assert total == pytest.approx(chances.sum(), rel=1e-9)
        clicks = sum(part["weight"] * part["click_rate"] for part in bins)
        assert clicks == pytest.approx(rows["label"].sum())
    assert metrics["ece"] == pytest.approx(found["calibrated"]["ece"], rel=1e-12)


def test_predictions_of_new_rows_are_the_evaluations_own(
    copied: Run, clicks: ClicksRun
):
    calibrate(copied.folder, method="beta", report=quiet)
    evaluate(copied.folder, split="test", report=quiet)
    judged = predictions(copied, "test")
    rows = clicks.frame.set_index("impression_id").loc[judged["impression_id"]]
    found = predict(copied.folder, rows.reset_index())
    assert list(found.columns) == [
        "row", "impression_id", "probability", "logit", "calibrated_logit",
    ]  # fmt: skip
    for column in ("probability", "logit", "calibrated_logit"):
        np.testing.assert_allclose(found[column], judged[column], rtol=0, atol=1e-5)
    metrics = evaluate(copied.folder, input=rows.reset_index(), report=quiet)
    assert metrics["raw_ece"] is not None


def test_fitting_again_does_not_see_the_map_before(copied: Run):
    first = calibrate(copied.folder, method="platt", report=quiet)
    assert calibrate(copied.folder, method="platt", report=quiet) == first


def test_the_command_prints_both_sides_and_the_files_place(
    copied: Run, capsys: pytest.CaptureFixture[str]
):
    assert main(["calibrate", f"run={copied.folder}", "method=platt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("platt on the valid split, ")
    assert lines[-1] == f"map     {copied.folder / 'calibration.json'}"
    assert any(line.split() == ["raw", "calibrated"] for line in lines)
    assert any(line.startswith("ECE") for line in lines)


def test_none_takes_the_map_away(copied: Run):
    before = digest(copied.folder)
    calibrate(copied.folder, method="platt", report=quiet)
    assert main(["calibrate", f"run={copied.folder}", "method=none"]) == 0
    assert digest(copied.folder) == before
    lines: list[str] = []
    assert calibrate(copied.folder, method="none", report=lines.append) is None
    assert lines == [f"not there  {copied.folder / 'calibration.json'}"]


def test_another_checkpoints_map_is_refused_and_training_fits_it_anew(
    copied: Run, clicks: ClicksRun
):
    names = sorted(path.name for path in copied.checkpoints.glob("step_*"))
    best = calibrate(copied.folder, method="temperature", report=quiet)
    other = next(name for name in names if name != best["checkpoint"])
    before = digest(copied.folder)
    with pytest.raises(RunError, match=f"{other}, but it was fitted on .*checkpoint="):
        evaluate(copied.folder, checkpoint=other, report=quiet)
    with pytest.raises(RunError, match="but it was fitted on"):
        predict(copied.folder, clicks.frame.head(9), checkpoint=other)
    assert digest(copied.folder) == before

    stale = calibrate(
        copied.folder, method="temperature", checkpoint=other, report=quiet
    )
    evaluate(copied.folder, checkpoint=other, report=quiet)
    dataset = open_dataset(copied)
    calibrate_after_training(copied, dataset, quiet, ALONE)
    again = json.loads((copied.folder / "calibration.json").read_text())
    assert again == best != stale


def test_training_fits_nothing_where_nothing_is_asked(copied: Run):
    before = digest(copied.folder)
    calibrate_after_training(copied, open_dataset(copied), quiet, ALONE)
    assert digest(copied.folder) == before


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        "{}",
        '{"recalibrator": {"method": "platt", "slope": -1, "intercept": 0}}',
    ],
)
def test_a_damaged_file_is_refused_by_name(copied: Run, damage: str):
    (copied.folder / "calibration.json").write_text(damage)
    with pytest.raises(RunError, match=r"calibration.json must hold a recalibrator"):
        evaluate(copied.folder, report=quiet)
    # Fitting anew is the way out, and reads nothing of it.
    assert calibrate(copied.folder, method="platt", report=quiet) is not None


def test_an_order_that_is_not_the_runs_is_refused(copied: Run):
    found = calibrate(copied.folder, method="platt", report=quiet)
    found["order"] = ["platt", "log_keep_rate"]
    (copied.folder / "calibration.json").write_text(json.dumps(found))
    with pytest.raises(RunError, match=r"its order is not \['platt'\]"):
        evaluate(copied.folder, report=quiet)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=plat"], "platt, isotonic, temperature, beta, but it is 'plat'. Did"),
        (["method=platt", "split=train"], "split must be valid or test, rows that"),
        (["method=platt", "checkpoint=step_1"], "checkpoint must be best, last or one"),
        ([], "method"),
        (["method=platt", "data.split=time"], "uses the run's own settings, but got"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    copied: Run, arguments, message, capsys
):
    before = digest(copied.folder)
    assert main(["calibrate", f"run={copied.folder}", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert digest(copied.folder) == before


def test_rows_that_cannot_be_fitted_leave_the_map_that_is_there(
    copied: Run, monkeypatch: pytest.MonkeyPatch
):
    calibrate(copied.folder, method="platt", report=quiet)
    before = digest(copied.folder)
    from dlrm.evaluation import predictions as module

    collected = module.concatenate_predictions

    def of_one_class(parts):
        found = collected(parts)
        found.labels[:] = 0
        return found

    monkeypatch.setattr(module, "concatenate_predictions", of_one_class)
    with pytest.raises(
        RunError, match=r"method=beta .* on the split valid it cannot be: one class"
    ):
        calibrate(copied.folder, method="beta", report=quiet)
    assert digest(copied.folder) == before


def test_a_method_is_for_clicks_alone(tmp_path: Path):
    from tests.runs import tiny_config

    with pytest.raises(ConfigError, match="calibration.method must be none but for"):
        tiny_config(tmp_path, "calibration.method=platt", "data.label_kind=multiclass")
    with pytest.raises(ConfigError, match="data.negative_keep_rate must be unset but"):
        tiny_config(
            tmp_path,
            "data.negative_keep_rate=0.5",
            "data.sampled_splits=[train]",
            "data.label_kind=multiclass",
        )


def test_the_verb_is_one_of_the_package():
    assert dlrm.calibrate is calibrate
