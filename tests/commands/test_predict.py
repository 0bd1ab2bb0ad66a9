"""``dlrm predict``: raw rows in, the evaluation's own logits out, row for row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlrm.commands.main import main
from dlrm.commands.predict import predict
from dlrm.config.errors import DataError
from tests.runs import CLICKS, ClicksRun


@pytest.fixture(scope="module")
def judged(clicks: ClicksRun) -> pd.DataFrame:
    """Return what the evaluation of the test split wrote."""
    return pd.read_parquet(clicks.run.evaluation("test") / "predictions.parquet")


@pytest.fixture(scope="module")
def raw(clicks: ClicksRun, judged: pd.DataFrame) -> pd.DataFrame:
    """Return the raw rows of the test split, in its order."""
    rows = clicks.frame.set_index("impression_id").loc[judged["impression_id"]]
    return rows.reset_index()


def as_csv(rows: pd.DataFrame, folder: Path) -> Path:
    rows.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def as_csv_gz(rows: pd.DataFrame, folder: Path) -> Path:
    rows.to_csv(folder / "rows.csv.gz", index=False)
    return folder / "rows.csv.gz"


def as_parquet(rows: pd.DataFrame, folder: Path) -> Path:
    typed = rows.copy()
    typed["price"] = pd.to_numeric(typed["price"])
    typed["visits"] = typed["visits"].astype("int64")
    typed.to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def as_frame(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    del folder
    return rows


@pytest.mark.parametrize("labels", [True, False], ids=["labelled", "unlabelled"])
@pytest.mark.parametrize("form", [as_csv, as_csv_gz, as_parquet, as_frame])
def test_raw_rows_get_the_logits_that_their_evaluation_had(
    clicks: ClicksRun,
    judged: pd.DataFrame,
    raw: pd.DataFrame,
    tmp_path: Path,
    form: Callable[[pd.DataFrame, Path], str | Path | pd.DataFrame],
    labels: bool,
):
    rows = raw if labels else raw.drop(columns="clicked")
    found = predict(clicks.run.folder, form(rows, tmp_path))
    assert list(found.columns) == ["row", "impression_id", "probability", "logit"]
    assert found["row"].tolist() == list(range(len(raw)))
    assert found["impression_id"].tolist() == raw["impression_id"].tolist()
    np.testing.assert_allclose(found["logit"], judged["logit"], rtol=0, atol=1e-6)
    probabilities = 1 / (1 + np.exp(-found["logit"].to_numpy(np.float64)))
    np.testing.assert_allclose(found["probability"], probabilities, rtol=1e-6)


def test_a_row_is_scored_alike_wherever_it_stands(clicks: ClicksRun, raw: pd.DataFrame):
    whole = predict(clicks.run.folder, raw)
    turned = predict(clicks.run.folder, raw.iloc[::-1])
    assert turned["impression_id"].tolist() == raw["impression_id"].tolist()[::-1]
    np.testing.assert_allclose(
        turned["logit"].to_numpy()[::-1], whole["logit"], rtol=0, atol=1e-6
    )


def test_ids_never_seen_share_the_row_for_the_unknown(
    clicks: ClicksRun, raw: pd.DataFrame
):
    rows = pd.concat([raw.head(1)] * 3, ignore_index=True)
    rows["device"] = ["toaster", "fridge", rows["device"][0]]
    rows["tags"] = ["never|seen", "before|either", rows["tags"][0]]
    logits = predict(clicks.run.folder, rows)["logit"]
    assert logits[0] == logits[1]
    assert logits[0] != logits[2]


def test_columns_that_the_run_does_not_read_are_no_matter(
    clicks: ClicksRun, raw: pd.DataFrame
):
    rows = raw[raw.columns[::-1]].assign(more=1)
    expected = predict(clicks.run.folder, raw)
    assert predict(clicks.run.folder, rows).equals(expected)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("scores.csv", pd.read_csv),
        ("scores.csv.gz", pd.read_csv),
        ("scores.parquet", pd.read_parquet),
    ],
)
def test_the_command_writes_what_the_function_returns(
    clicks: ClicksRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    read: Callable[[Path], pd.DataFrame],
):
    target = tmp_path / name
    line = [f"run={clicks.run.folder}", f"input={CLICKS}", f"output={target}"]
    assert main(["predict", *line]) == 0
    assert capsys.readouterr().out == (
        f"2,000 rows scored with step_000000008 -> {target}\n"
    )
    pd.testing.assert_frame_equal(
        read(target), predict(clicks.run.folder, CLICKS), check_dtype=False
    )
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(
    clicks: ClicksRun, tmp_path: Path, raw: pd.DataFrame
):
    target = tmp_path / "scores.csv"
    target.write_text("old")
    bad = raw.copy()
    bad.loc[150, "price"] = "cheap"
    source = as_csv(bad, tmp_path)
    line = [f"run={clicks.run.folder}", f"input={source}", f"output={target}"]
    assert main(["predict", *line]) == 2
    assert target.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "rows.csv"}
    as_csv(raw, tmp_path)
    assert main(["predict", *line]) == 0
    assert len(pd.read_csv(target)) == len(raw)


def test_a_missing_feature_is_named(clicks: ClicksRun, raw: pd.DataFrame):
    with pytest.raises(DataError, match="'price'"):
        predict(clicks.run.folder, raw.drop(columns="price"))


def test_an_input_without_rows_is_refused(
    clicks: ClicksRun, raw: pd.DataFrame, tmp_path: Path
):
    for rows in (raw.head(0), as_csv(raw.head(0), tmp_path)):
        with pytest.raises(DataError, match="input must have rows"):
            predict(clicks.run.folder, rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": None}, "run must be set"),
        ({"input": None}, "input must be set"),
        ({"output": None}, "output must be set"),
        ({"run": "nosuch"}, "must hold config.yaml, but nosuch does not"),
        ({"input": "nosuch.csv"}, "nosuch.csv"),
        ({"output": "scores.txt"}, "must end in .csv, .csv.gz, .parquet, but it is"),
        ({"output": "no/scores.csv"}, "but no does not. Make it first: mkdir -p no"),
        ({"output": "rows.csv"}, "output must be another file than input"),
        ({"trainer.seed": "1"}, "uses the run's own settings, but got trainer.seed=1"),
        ({"outptu": "a.csv"}, "got outptu=a.csv. Its keys are run, input, output"),
        ({"checkpoint": "9"}, "checkpoint must be best, last or one of"),
    ],
)
def test_what_does_not_fit_is_one_message_and_writes_nothing(
    clicks: ClicksRun,
    raw: pd.DataFrame,
    workdir: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str | None],
    message: str,
):
    as_csv(raw, workdir)
    given = {
        "run": str(clicks.run.folder), "input": "rows.csv", "output": "scores.csv",
        **settings,
    }  # fmt: skip
    line = [f"{key}={value}" for key, value in given.items() if value is not None]
    assert main(["predict", *line]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("dlrm predict: error: ")
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert [path.name for path in workdir.iterdir()] == ["rows.csv"]
