import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm.config.errors import DatasetError
from dlrm.evaluation.clicks import ClickJudge
from dlrm.evaluation.evaluation import write_evaluation
from dlrm.evaluation.predictions import Predictions
from dlrm.evaluation.report import ReportContext
from dlrm.evaluation.terminal import format_metrics
from dlrm.metrics.likelihood import log_loss_from_probabilities
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.ranking import auc
from dlrm.metrics.summary import compute_metrics

CONTEXT = ReportContext(run="a-run", split="test")


def predict(num_rows=200, seed=0):
    random = np.random.default_rng(seed)
    return Predictions(
        row_ids=np.arange(num_rows),
        logits=random.normal(-1, 1, num_rows).astype(np.float32),
        labels=(random.random(num_rows) < 0.3).astype(np.float32),
        weights=random.choice([0.5, 2.0], num_rows).astype(np.float32),
    )


def write(folder, predictions, side=None, group_column=None):
    return write_evaluation(
        folder,
        judge=ClickJudge(),
        predictions=predictions,
        side=side,
        group_column=group_column,
        context=CONTEXT,
    )


def test_metrics_json_holds_the_weighted_metrics_of_all_rows(tmp_path):
    found = predict()
    metrics = write(tmp_path / "test", found)
    expected = compute_metrics(found.labels, found.logits, found.weights)
    assert metrics == expected
    assert json.loads((tmp_path / "test" / "metrics.json").read_text()) == expected
    names = {path.name for path in (tmp_path / "test").iterdir()}
    assert names == {"metrics.json", "predictions.parquet", "report.html", "report.md"}


def test_predictions_stand_row_for_row_beside_their_raw_columns(tmp_path):
    found = predict(5)
    side = pa.table(
        {
            "__file": ["a.csv"] * 5,
            "__row": [10, 11, 12, 13, 14],
            "user": ["ann", None, "cy", "dee", "eve"],
            "label": [7, 8, 9, 10, 11],
            "tags": [["a"], [], ["b", "c"], None, ["d"]],
        }
    )
    write(tmp_path / "test", found, side)
    table = pq.read_table(tmp_path / "test" / "predictions.parquet")
    assert table.column_names == [
        "row", "label", "logit", "probability", "weight", "user", "raw_label", "tags",
    ]  # fmt: skip
    assert table["row"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["label"].to_pylist() == found.labels.tolist()
    assert table["logit"].to_numpy().tolist() == found.logits.tolist()
    assert table["weight"].to_numpy().tolist() == found.weights.tolist()
    expected = probabilities_from_logits(found.logits)
    np.testing.assert_array_equal(table["probability"].to_numpy(), expected)
    for name, shown in (("user", "user"), ("label", "raw_label"), ("tags", "tags")):
        assert table[shown].to_pylist() == side[name].to_pylist()


def test_a_subset_of_rows_takes_its_own_raw_columns(tmp_path):
    whole = predict(6)
    kept = np.array([1, 4])
    part = Predictions(
        kept, whole.logits[kept], whole.labels[kept], whole.weights[kept]
    )
    write(tmp_path / "test", part, pa.table({"user": list("abcdef")}))
    table = pq.read_table(tmp_path / "test" / "predictions.parquet")
    assert table["user"].to_pylist() == ["b", "e"]


@pytest.mark.parametrize("kind", ["text", "number", "dictionary", "chunked"])
def test_groups_come_from_the_kept_column_and_missing_ones_are_left_out(tmp_path, kind):
    found = predict()
    numbers = np.random.default_rng(1).integers(-3, 20, 200)
    missing = numbers == 0
    values = [
        None if gone else int(n) for n, gone in zip(numbers, missing, strict=True)
    ]
    column = pa.array(values, pa.int64())
    if kind in ("text", "dictionary"):
        column = column.cast(pa.string())
    if kind == "dictionary":
        column = column.dictionary_encode()
    if kind == "chunked":
        column = pa.chunked_array([column[:50], column[50:]])
    metrics = write(tmp_path / "test", found, pa.table({"user": column}), "user")
    groups = np.ma.array(numbers, mask=missing)
    expected = compute_metrics(found.labels, found.logits, found.weights, groups)
    intervals = metrics.pop("intervals")
    assert metrics == pytest.approx(expected, abs=1e-12)
    # A row without a group is a group of its own.
    assert intervals["unit"] == "group"
    assert intervals["num_units"] == len(set(numbers) - {0}) + missing.sum()
    assert metrics["gauc_num_groups"] > 10


def test_a_group_column_that_was_not_kept_is_refused_by_name(tmp_path):
    message = "'user' must be kept .* only these are: item"
    with pytest.raises(DatasetError, match=message):
        write(tmp_path / "test", predict(2), pa.table({"item": [1, 2]}), "user")
    with pytest.raises(DatasetError, match="only these are: none"):
        write(tmp_path / "test", predict(2), None, "user")
    assert list(tmp_path.iterdir()) == []


def test_known_probabilities_give_the_bayes_bound(tmp_path):
    found = predict(500)
    truth = np.random.default_rng(2).beta(1, 3, 500)
    side = pa.table({"bayes_probability": truth})
    metrics = write(tmp_path / "test", found, side)
    best = auc(found.labels, truth, found.weights)
    loss = log_loss_from_probabilities(found.labels, truth, found.weights).log_loss
    assert metrics["bayes"] == {
        "auc": best,
        "log_loss": loss,
        "auc_share": (metrics["auc"] - 0.5) / (best - 0.5),
        "log_loss_ratio": metrics["log_loss"] / loss,
    }


def test_what_rare_ids_leave_to_be_learned_is_printed_beside_the_bound(tmp_path):
    found = predict(500)
    random = np.random.default_rng(2)
    capped = random.beta(1, 3, 500)
    side = pa.table(
        {"bayes_probability": random.beta(1, 3, 500), "capped_probability": capped}
    )
    metrics = write(tmp_path / "test", found, side)
    assert metrics["bayes"]["capped_auc"] == auc(found.labels, capped, found.weights)
    loss = log_loss_from_probabilities(found.labels, capped, found.weights).log_loss
    assert metrics["bayes"]["capped_log_loss"] == loss
    line = next(x for x in format_metrics(metrics).splitlines() if "AUC cap" in x)
    assert f"{metrics['bayes']['capped_auc']:.5f}" in line


def test_a_missing_true_probability_leaves_the_bound_undefined(tmp_path):
    side = pa.table({"bayes_probability": [0.5, None, 0.2]})
    metrics = write(tmp_path / "test", predict(3), side)
    assert metrics["bayes"] == dict.fromkeys(metrics["bayes"])
    assert (tmp_path / "test" / "report.html").is_file()


def test_a_second_evaluation_replaces_the_first(tmp_path):
    write(tmp_path / "test", predict(50, seed=1))
    metrics = write(tmp_path / "test", predict(70, seed=2))
    stored = json.loads((tmp_path / "test" / "metrics.json").read_text())
    assert stored == metrics
    assert stored["num_examples"] == 70
    assert list(tmp_path.iterdir()) == [tmp_path / "test"]


@pytest.mark.parametrize("case", ["one class", "nan", "no rows", "infinite"])
def test_what_is_undefined_is_null_in_valid_json_and_named_in_the_report(
    tmp_path, case
):
    found = predict(0 if case == "no rows" else 20)
    if case == "one class":
        found.labels[:] = 0
    if case == "nan":
        found.logits[3] = np.nan
    if case == "infinite":
        found.logits[:] = np.where(found.labels == 1, -np.inf, np.inf)
    write(tmp_path / "test", found, pa.table({"user": range(len(found))}), "user")
    text = (tmp_path / "test" / "metrics.json").read_text()
    assert "NaN" not in text.replace("are NaN", "")
    assert "Infinity" not in text
    undefined = json.loads(text)["undefined"]
    page = (tmp_path / "test" / "report.html").read_text()
    for name, reason in undefined.items():
        assert json.loads(text)[name] is None
        assert f"<li>{name}: {reason}</li>" in page
