"""What is read of a run, a Parquet file or a CSV file, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dlrm.comparison.sources import ColumnNames, predictions_of, read_rows
from dlrm.config.errors import DataError, RunError
from tests.comparison.files import frame, write_run

USUAL = ColumnNames()


def csv(folder: Path, content: pd.DataFrame) -> Path:
    path = folder / "scores.csv"
    content.to_csv(path, index=False)
    return path


def test_a_runs_predictions_of_a_split_are_found(tmp_path: Path):
    run = write_run(tmp_path / "run", frame(), split="valid")
    expected = run / "evaluation" / "valid" / "predictions.parquet"
    assert predictions_of(run, "valid", key="baseline") == expected
    assert predictions_of(expected.parent, "test", key="baseline") == expected
    assert predictions_of(expected, "test", key="baseline") == expected


def test_a_run_without_the_evaluation_says_how_to_make_it(tmp_path: Path):
    run = write_run(tmp_path / "run", frame(), split="valid")
    with pytest.raises(
        RunError, match=r"(?s)'test', but .*evaluations of valid.*evaluate run=.*run"
    ):
        predictions_of(run, "test", key="candidate")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="has no evaluation"):
        predictions_of(tmp_path / "empty", "test", key="candidate")


def test_a_path_that_is_not_there_names_its_neighbours(tmp_path: Path):
    csv(tmp_path, frame())
    with pytest.raises(DataError, match=r"candidate must name .*there is scores.csv"):
        predictions_of(tmp_path / "score.csv", "test", key="candidate")


def test_a_run_is_judged_by_its_logits_and_grouped_by_its_own_column(tmp_path: Path):
    predictions = frame()
    run = write_run(tmp_path / "run", predictions, group="user")
    found = read_rows(predictions_of(run, "test", key="baseline"), USUAL)
    assert found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.scores, predictions["logit"])
    np.testing.assert_array_equal(found.labels, predictions["label"] == 1)
    assert found.logits is found.scores
    assert found.weights is None
    assert found.group == "user"
    assert found.kept["user"].to_pylist() == predictions["user"].tolist()
    alone = read_rows(found.path, ColumnNames(group="none"))
    assert alone.group is None


def test_corrected_logits_are_what_a_run_is_judged_by(tmp_path: Path):
    predictions = frame().assign(calibrated_logit=lambda rows: rows["logit"] - 1.0)
    path = tmp_path / "predictions.parquet"
    predictions.to_parquet(path)
    found = read_rows(path, USUAL).scores
    np.testing.assert_array_equal(found, predictions["calibrated_logit"])
    own = read_rows(path, ColumnNames(logit="logit")).scores
    np.testing.assert_array_equal(own, predictions["logit"])


def test_bare_probabilities_become_logits_and_clipped_ones_are_counted(tmp_path: Path):
    path = csv(tmp_path, pd.DataFrame({"y": [0, 1, 1, 0], "p": [0.0, 1.0, 0.25, 0.5]}))
    found = read_rows(path, ColumnNames(label="y", probability="p"))
    assert found.logits is not None
    expected = [-52 * np.log(2), 52 * np.log(2), -np.log(3), 0.0]
    np.testing.assert_allclose(found.logits, expected, rtol=1e-14, atol=1e-16)
    assert found.num_clipped == 2
    np.testing.assert_array_equal(found.scores, [0.0, 1.0, 0.25, 0.5])
    assert found.ids is None


def test_a_score_only_ranks(tmp_path: Path):
    path = csv(tmp_path, pd.DataFrame({"label": [0, 1], "score": [3.5, -2.0]}))
    found = read_rows(path, USUAL)
    assert found.logits is None
    assert found.scores.tolist() == [3.5, -2.0]


def test_weights_ids_and_columns_by_name(tmp_path: Path):
    content = pd.DataFrame(
        {
            "label": [0, 1],
            "logit": [0.5, 1.0],
            "w": [1.0, 2.0],
            "impression": ["a", "b"],
            "user": ["x", None],
        }
    )
    names = ColumnNames(weight="w", id="impression", group="user", kept=("gone",))
    found = read_rows(csv(tmp_path, content), names)
    assert found.weights is not None
    assert found.weights.tolist() == [1.0, 2.0]
    assert found.ids == pa.array(["a", "b"])
    assert list(found.kept) == ["user"]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("label", [0, 2], r"'label' must be 0 or 1, but row 1 has 2 \(1 such rows\)"),
        ("label", ["yes", "no"], "'label' must hold numbers, but it holds string"),
        ("logit", [0.5, None], "'logit' must have a value in every row, but row 1"),
        ("weight", [1.0, -1.0], "'weight' must hold weights of at least 0, but row 1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(tmp_path: Path, column, values, message):
    content = pd.DataFrame({"label": [0, 1], "logit": [0.5, 1.0], "weight": [1.0, 2.0]})
    with pytest.raises(DataError, match=message):
        read_rows(csv(tmp_path, content.assign(**{column: values})), USUAL)


def test_logits_named_as_probabilities_are_refused(tmp_path: Path):
    path = csv(tmp_path, pd.DataFrame({"label": [0, 1], "z": [-2.0, 1.0]}))
    with pytest.raises(
        DataError, match=r"from 0 to 1, but they span -2 to 1. Name it by logit=z"
    ):
        read_rows(path, ColumnNames(probability="z"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (ColumnNames(label="click"), "must have the column 'click', but it has"),
        (ColumnNames(label="y", id="imp"), "must have the column 'imp', .*: id=COLUMN"),
        (
            ColumnNames(label="y", weight="w"),
            "must have the column 'w', .*: weight=COLUMN",
        ),
        (ColumnNames(label="y", logit="z"), "must have a column 'z', but it has y, p"),
        (USUAL, "must have the column 'label', but it has y, p"),
        (
            ColumnNames(label="y"),
            "a column 'logit' or 'probability' or 'score', but it has y, p",
        ),
    ],
)
def test_a_column_that_is_not_there_is_named(tmp_path: Path, names, message):
    path = csv(tmp_path, pd.DataFrame({"y": [0, 1], "p": [0.1, 0.2]}))
    with pytest.raises(DataError, match=message):
        read_rows(path, names)


def test_a_file_without_a_named_column_may_have_the_usual_one(tmp_path: Path):
    content = pd.DataFrame({"label": [0, 1], "logit": [0.5, 1.0]})
    names = ColumnNames(label="clicked", probability="p", weight=None)
    assert read_rows(csv(tmp_path, content), names).scores.tolist() == [0.5, 1.0]


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=re.escape(f"{path} must be a Parquet file")):
        read_rows(path, USUAL)


def test_a_yaml_of_someone_elses_says_nothing_of_groups(tmp_path: Path):
    run = write_run(tmp_path / "run", frame())
    for text in ("data: [1]", "{", "data: {group_column: elsewhere}"):
        (run / "config.yaml").write_text(text)
        path = predictions_of(run, "test", key="baseline")
        assert read_rows(path, USUAL).group is None
