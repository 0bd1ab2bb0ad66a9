"""A log whose non-clicks were thinned, from raw rows to probabilities of the whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dlrm
from dlrm.config.errors import DataError
from dlrm.data.preparation.fingerprint import fingerprint_of
from dlrm.metrics.summary import compute_metrics
from dlrm.run import Run, open_dataset
from tests.runs import tiny_config

ONE_RATE = ("data.negative_keep_rate=0.05",)
BY_COLUMN = ("data.keep_rate_column=rate",)


def quiet(line: str) -> None:
    del line


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def log(num_rows: int, seed: int, *, by_place: bool, sampled: bool) -> pd.DataFrame:
    """Draw clicks of a logistic model of three columns; thin the non-clicks.

    One in twenty of them is kept, or of those in the second place three in ten.
    """
    world = np.random.default_rng(12)
    user, item = world.normal(0, 0.7, 40), world.normal(0, 0.7, 60)
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "user": random.integers(0, 40, num_rows),
            "item": random.integers(0, 60, num_rows),
            "place": random.integers(0, 2, num_rows),
        }
    )
    truth = -2.4 + 0.8 * rows["place"] + user[rows["user"]] + item[rows["item"]]
    rows["click"] = (random.random(num_rows) < sigmoid(truth)).astype(int)
    rows["rate"] = np.where(rows["place"] == 0, 0.05, 0.3) if by_place else 0.05
    if not sampled:
        return rows
    kept = (rows["click"] == 1) | (random.random(num_rows) < rows["rate"])
    return rows[kept].reset_index(drop=True)


def settings(folder: Path, *extra: str) -> list[str]:
    (folder / "conf" / "data").mkdir(parents=True, exist_ok=True)
    features = "{user: {}, item: {}, place: {}}"
    (folder / "conf" / "data" / "thinned.yaml").write_text(
        f"name: thinned\nformat: table\nlabel: click\nsparse_features: {features}\n"
    )
    return [
        "data=thinned",
        "model=logistic_regression",
        "data.split=source",
        "data.sampled_splits=[train,valid]",
        f"data.prepared={folder / 'prepared'}",
        f"output={folder / 'outputs'}",
        "run_name=run",
        "trainer.num_threads=1",
        "logger.tensorboard=false",
        *extra,
    ]


def trained(folder: Path, rows: int, *extra: str, by_place: bool) -> Run:
    """Train on thinned rows, validate on such, and test on all rows."""
    frame = {
        name: log(size, seed, by_place=by_place, sampled=name != "test")
        for seed, (name, size) in enumerate(
            (("train", rows), ("valid", rows // 2), ("test", rows // 2))
        )
    }
    given = BY_COLUMN if by_place else ONE_RATE
    return dlrm.train(*settings(folder, *given, *extra), frame=frame, report=quiet)


def judged(run: Run, split: str) -> pd.DataFrame:
    return pd.read_parquet(run.evaluation(split) / "predictions.parquet")


@pytest.mark.parametrize("by_place", [False, True])
def test_each_split_is_judged_at_the_rate_of_the_whole_log(
    workdir: Path, by_place: bool
):
    run = trained(workdir, 4_000, "trainer.global_batch_size=256", by_place=by_place)
    for split, sampled in (("valid", True), ("test", False)):
        metrics = dlrm.evaluate(run.folder, split=split, report=quiet)
        rows = judged(run, split)
        if by_place:
            rates = np.where(rows["place"].astype(int) == 0, 0.05, 0.3)
        else:
            rates = np.full(len(rows), 0.05)
        labels = rows["label"].to_numpy()
        weights = (
            np.where(labels == 1, 1.0, 1 / rates) if sampled else np.ones(len(rows))
        )
        np.testing.assert_allclose(rows["weight"], weights, rtol=1e-6)
        logits = rows["logit"].to_numpy(np.float64)
        np.testing.assert_allclose(
            rows["calibrated_logit"], logits + np.log(rates), rtol=0, atol=1e-12
        )
        expected = compute_metrics(
            labels, logits + np.log(rates), weights.astype(np.float32)
        )
        for name in ("auc", "log_loss", "calibration", "brier", "ece"):
            assert metrics[name] == pytest.approx(expected[name], rel=1e-9)

    # What training logged of valid is what its evaluation says.
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines]
    last = [line for line in logged if line.get("split") == "valid"][-1]
    valid = dlrm.evaluate(run.folder, split="valid", checkpoint="last", report=quiet)
    for name in ("auc", "log_loss", "calibration"):
        assert last[name] == pytest.approx(valid[name], rel=1e-9)


@pytest.mark.parametrize("by_place", [False, True])
def test_new_rows_get_the_probability_of_the_whole_log(workdir: Path, by_place: bool):
    steps = ("trainer.global_batch_size=128", "trainer.num_epochs=4")
    run = trained(workdir, 10_000, *steps, by_place=by_place)
    fitted = dlrm.calibrate(run.folder, method="platt", report=quiet)
    assert fitted["order"] == ["log_keep_rate", "platt"]
    assert fitted["keep_rate"] == ({"column": "rate"} if by_place else 0.05)
    rows = log(5_000, 2, by_place=by_place, sampled=False)
    found = dlrm.predict(run.folder, rows.drop(columns="click"))
    slope, intercept = (fitted["recalibrator"][k] for k in ("slope", "intercept"))
    # Exactly in this order: the rate first.
    expected = (
        slope * (found["logit"].to_numpy(float) + np.log(rows["rate"])) + intercept
    )
    np.testing.assert_allclose(found["calibrated_logit"], expected, atol=1e-12)
    np.testing.assert_allclose(found["probability"], sigmoid(expected), rtol=1e-12)

    metrics = dlrm.evaluate(run.folder, input=rows, name="whole", report=quiet)
    test = dlrm.evaluate(run.folder, split="test", report=quiet)
    assert metrics["log_loss"] == pytest.approx(test["log_loss"], rel=1e-5)
    part = log(5_000, 1, by_place=by_place, sampled=True)
    metrics = dlrm.evaluate(
        run.folder, input=part, name="part", sampled=True, report=quiet
    )
    valid = dlrm.evaluate(run.folder, split="valid", report=quiet)
    assert metrics["log_loss"] == pytest.approx(valid["log_loss"], rel=1e-5)
    if by_place:
        with pytest.raises(DataError, match="'rate'.*data.keep_rate_column"):
            dlrm.predict(run.folder, rows.drop(columns="rate"))


@pytest.mark.slow
@pytest.mark.parametrize("by_place", [False, True])
def test_mean_probability_over_click_rate_is_within_2_percent(
    workdir: Path, by_place: bool
):
    run = trained(
        workdir,
        400_000,
        "trainer.global_batch_size=1024",
        "trainer.num_epochs=3",
        "calibration.method=platt",
        by_place=by_place,
    )
    dlrm.calibrate(run.folder, method="platt", report=quiet)
    metrics = dlrm.evaluate(run.folder, split="test", report=quiet)
    assert metrics["num_positives"] >= 20_000
    rows = judged(run, "test")
    assert (rows["weight"] == 1).all()
    promised = rows["probability"].mean() / rows["label"].mean()
    assert promised == pytest.approx(1, abs=0.02)
    # As the thinned log has it, clicks are several times too frequent.
    assert metrics["raw_calibration"] > 2
    for _, part in rows.groupby("place"):
        promised = part["probability"].mean() / part["label"].mean()
        assert promised == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("bad", ["0", "1.5", "often"])
def test_a_rate_that_is_no_share_is_refused_with_its_row(workdir: Path, bad: str):
    rows = log(100, 0, by_place=True, sampled=False)
    rows.loc[7, "rate"] = float(bad) if bad != "often" else 0.1
    rows["rate"] = rows["rate"].astype(str)
    rows.loc[7, "rate"] = bad
    rows.to_csv(workdir / "rows.csv", index=False)
    given = ["data.split=random", "data.source=rows.csv", *BY_COLUMN]
    keys = [text for text in settings(workdir, *given) if text.startswith("data")]
    with pytest.raises(DataError, match=r"line 9.*'rate' must be a share in \(0, 1\]"):
        dlrm.prepare(*keys)


def test_rates_change_a_dataset_only_where_a_column_is_read(tmp_path: Path):
    data = tiny_config(tmp_path).data

    def named(**settings: object) -> str:
        return fingerprint_of(replace(data, **settings), {"made": "once"})

    one, two = {"sampled_splits": ["train"]}, {"sampled_splits": ["train", "test"]}
    assert named() == named(negative_keep_rate=0.5, **one)
    assert named() == named(negative_keep_rate=0.1, **two)
    by_column = named(keep_rate_column="rate", **one)
    assert by_column == named(keep_rate_column="rate", **two) != named()
    assert by_column != named(keep_rate_column="other", **one)


def test_the_column_of_rates_is_kept_beside_the_rows(workdir: Path):
    run = trained(workdir, 1_000, "trainer.global_batch_size=256", by_place=True)
    assert "rate" in open_dataset(run).side("test").column_names
