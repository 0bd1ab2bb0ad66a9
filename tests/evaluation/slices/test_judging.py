import json
import math

import numpy as np
import pyarrow as pa
import pytest

from dlrm.config.evaluation import EvaluationConfig
from dlrm.evaluation.slices.dealing import by_value
from dlrm.evaluation.slices.dimensions import cross
from dlrm.evaluation.slices.judging import judge_slices
from dlrm.evaluation.slices.measures import SLICE_METRICS, EvaluatedRows, measure
from dlrm.metrics.summary import compute_metrics

SUMS = ("rows", "positives", "weight", "positive_weight", "promised", "log_loss_sum")


def draw(num_rows, *, seed=0, weighted=False):
    """Draw labels by the very probabilities that are told."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1.5, 1.0, num_rows)
    labels = (random.random(num_rows) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    weights = random.uniform(0.1, 3, num_rows) if weighted else np.ones(num_rows)
    return labels, logits.astype(np.float32), weights.astype(np.float32)


def dimensions_of(num_rows, *, seed=1, num_values=(4, 30), num_shown=20):
    random = np.random.default_rng(seed)
    found = []
    for name, size in zip("ab", num_values, strict=True):
        values = [f"{name}{i}" for i in random.integers(0, size, num_rows)]
        for row in random.integers(0, num_rows, num_rows // 50):
            values[row] = None
        found.append(by_value(name, pa.chunked_array([values]), num_shown=num_shown))
    return [*found, cross(*found, num_shown=num_shown)]


def judge(rows, dimensions, **settings):
    return judge_slices(rows, dimensions, EvaluationConfig(**settings))


def slice_of(found, key, name):
    dimension = next(d for d in found["dimensions"] if d["key"] == key)
    return next(s for s in dimension["slices"] if s["name"] == name)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_slices_of_every_dimension_sum_to_the_total(weighted):
    rows = EvaluatedRows(*draw(5_000, weighted=weighted))
    found = judge(rows, dimensions_of(5_000))
    total = found["total"]
    for dimension in found["dimensions"]:
        slices = dimension["slices"]
        for name in ("rows", "positives"):
            assert sum(entry[name] for entry in slices) == total[name]
        for name in SUMS:
            parts = math.fsum(entry[name] for entry in slices)
            assert parts == pytest.approx(total[name], rel=1e-12)
        assert sum(entry["share"] for entry in slices) == pytest.approx(1)
        kinds = {entry["kind"] for entry in slices}
        assert dimension["kind"] == "crossing" or "missing" in kinds
    assert [d["slices"][-1]["kind"] for d in found["dimensions"]][1:] == ["others"] * 2


def test_a_slice_has_the_metrics_of_its_rows_alone():
    rows = EvaluatedRows(*draw(3_000, weighted=True))
    dimension = dimensions_of(3_000)[0]
    found = judge(rows, [dimension])
    for code, entry in enumerate(found["dimensions"][0]["slices"]):
        chosen = dimension.codes == code
        expected = compute_metrics(
            rows.labels[chosen], rows.logits[chosen], rows.weights[chosen]
        )
        for name in SLICE_METRICS:
            assert entry["metrics"][name] == pytest.approx(expected[name], abs=1e-12)


def test_a_slice_is_compared_with_the_auc_of_all_other_rows():
    rows = EvaluatedRows(*draw(3_000, weighted=True))
    dimension = dimensions_of(3_000)[0]
    found = judge(rows, [dimension])
    for code, entry in enumerate(found["dimensions"][0]["slices"]):
        if entry["too_small"] is None:
            others = measure(rows.take(dimension.codes != code))
            assert entry["auc_rest"] == pytest.approx(
                others["metrics"]["auc"], abs=1e-9
            )
            test = entry["tests"]["auc"]
            error = math.hypot(
                entry["standard_errors"]["auc"], others["standard_errors"]["auc"]
            )
            gap = entry["metrics"]["auc"] - entry["auc_rest"]
            assert test["z"] == pytest.approx(gap / error, rel=0.03, abs=0.01)


def shift(logits, chosen, random):
    return np.where(chosen, logits + 0.5, logits)


def overconfident(logits, chosen, random):
    # About the slice's own mean, so that its number of clicks stays about right.
    return np.where(chosen, 2.2 * logits + 1.6, logits)


def blurred(logits, chosen, random):
    return np.where(chosen, logits + random.normal(0, 1.5, len(logits)), logits)


@pytest.mark.parametrize("harm", [shift, overconfident, blurred])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_bad_slice_ranks_first(harm, seed):
    random = np.random.default_rng(seed + 100)
    labels, logits, weights = draw(40_000, seed=seed)
    dimensions = dimensions_of(40_000, seed=seed)
    chosen = dimensions[1].codes == 7
    name = dimensions[1].names[7].text
    harmed = harm(logits, chosen, random).astype(np.float32)
    found = judge(EvaluatedRows(labels, harmed, weights), dimensions)
    worst = found["worst"][0]
    assert (worst["rank"], worst["dimension"], worst["slice"]) == (1, "b", name)
    assert abs(worst["z"]) >= 5
    assert worst["significant"]
    assert worst["sentence"]
    if harm is shift:
        gap = worst["calibration"] - 1
        assert f"promises {gap:.1%} more clicks" in worst["sentence"]


def test_a_slice_that_is_only_ranked_badly_is_listed_apart():
    labels, logits, weights = draw(60_000, seed=5)
    dimensions = dimensions_of(60_000, num_values=(4, 8))
    chosen = dimensions[0].codes == 2
    # Its own click rate for every row is right on average, and knows nothing.
    rate = labels[chosen].mean()
    blind = logits.copy()
    blind[chosen] = math.log(rate / (1 - rate))
    blind[chosen] += np.random.default_rng(0).normal(0, 1e-4, chosen.sum())
    found = judge(EvaluatedRows(labels, blind, weights), dimensions)
    weakest = found["weak_ranking"][0]
    assert (weakest["dimension"], weakest["slice"]) == (
        "a",
        dimensions[0].names[2].text,
    )
    assert weakest["significant"]
    assert weakest["auc"] < weakest["auc_rest"]
    assert not [w for w in found["worst"] if w["significant"]]


def false_alarms(seeds, *, groups):
    alarms = {"worst": 0, "weak_ranking": 0}
    for seed in range(seeds):
        labels, logits, weights = draw(4_000, seed=seed)
        codes = None
        if groups:
            codes = np.random.default_rng(seed).integers(0, 800, 4_000)
            codes = np.ma.array(codes, mask=np.zeros(4_000, bool))
        rows = EvaluatedRows(labels, logits, weights, codes)
        dimensions = dimensions_of(4_000, seed=seed, num_values=(3, 6), num_shown=6)
        found = judge(rows, dimensions)
        for name in alarms:
            alarms[name] += any(entry["significant"] for entry in found[name])
    return alarms


def test_clean_rows_raise_few_alarms():
    alarms = false_alarms(8, groups=False)
    # 5 % each: three of eight come once in 170 tries.
    assert max(alarms.values()) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("groups", [False, True])
def test_clean_rows_raise_alarms_no_more_often_than_the_level(groups):
    alarms = false_alarms(500, groups=groups)
    # 25 expected at most, with a standard deviation of 4.9.
    assert max(alarms.values()) <= 25 + 2 * 4.9


def test_small_slices_are_listed_and_not_judged():
    labels, logits, weights = draw(2_000)
    values = pa.chunked_array([["big"] * 1_990 + ["small"] * 10])
    dimension = by_value("d", values, num_shown=5)
    found = judge(EvaluatedRows(labels, logits, weights), [dimension])
    [entry] = found["too_small"]
    assert (entry["dimension"], entry["slice"], entry["rows"]) == ("d", "small", 10)
    assert "expected clicks, fewer than 30" in entry["reason"]
    small = slice_of(found, "d", "small")
    assert small["tests"] == {"calibration": None, "log_loss": None, "auc": None}
    assert small["metrics"]["log_loss"] > 0
    assert all(worst["slice"] != "small" for worst in found["worst"])


def test_no_number_is_made_up_where_there_is_none():
    labels = np.array([0, 0, 1, 0, 1, 1], dtype=np.float32)
    logits = np.array([0, 1, 2, np.nan, 3, -np.inf], dtype=np.float32)
    values = pa.chunked_array([["zero", "zero", "one", "nan", "one", "wrong"]])
    rows = EvaluatedRows(labels, logits, np.ones(6, np.float32))
    found = judge(rows, [by_value("d", values, num_shown=5)], slice_min_clicks=1)
    json.dumps(found, allow_nan=False)
    assert slice_of(found, "d", "zero")["undefined"]["auc"] == "one class"
    assert slice_of(found, "d", "nan")["too_small"] == "predictions are NaN"
    assert slice_of(found, "d", "nan")["log_loss_sum"] is None
    assert slice_of(found, "d", "wrong")["metrics"]["log_loss"] is None


def test_no_rows_have_no_slices():
    empty = np.zeros(0, np.float32)
    rows = EvaluatedRows(empty, empty, empty)
    dimension = by_value(
        "d", pa.chunked_array([pa.array([], pa.string())]), num_shown=5
    )
    found = judge(rows, [dimension])
    assert found["dimensions"][0]["slices"] == []
    assert found["total"]["rows"] == found["num_tests"] == 0


def test_rows_of_weight_zero_count_in_nothing_but_the_rows():
    labels, logits, weights = draw(3_000)
    weights[::2] = 0
    rows = EvaluatedRows(labels, logits, weights)
    kept = judge(rows.take(weights > 0), [])["total"]
    total = judge(rows, [])["total"]
    assert total["rows"] == 3_000
    for name in SUMS[2:]:
        assert total[name] == pytest.approx(kept[name])
    assert total["metrics"] == pytest.approx(kept["metrics"])
