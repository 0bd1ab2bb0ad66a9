"""Intervals against definitions by loops, against a bootstrap, and over simulations."""

import numpy as np
import pytest

from dlrm.metrics.intervals import (
    accuracy_estimate,
    auc_estimate,
    brier_estimate,
    calibration_estimate,
    log_loss_estimate,
    metric_intervals,
    normalized_entropy_estimate,
    pr_auc_estimate,
    rig_estimate,
    standard_error,
)
from dlrm.metrics.rows import check_rows
from dlrm.metrics.summary import compute_metrics

ESTIMATES = {
    "auc": auc_estimate,
    "pr_auc": pr_auc_estimate,
    "log_loss": log_loss_estimate,
    "normalized_entropy": normalized_entropy_estimate,
    "rig": rig_estimate,
    "brier": brier_estimate,
    "calibration": calibration_estimate,
    "accuracy": accuracy_estimate,
}


def drawn(num_rows, *, seed=0, rounding=6, num_groups=None, spread=0.0):
    """Return labels, logits and groups; rows of a group share a taste for clicks."""
    random = np.random.default_rng(seed)
    groups = random.integers(0, num_groups or num_rows, num_rows)
    taste = random.normal(0, spread, groups.max() + 1)[groups]
    logits = (random.normal(-1, 1, num_rows) + taste).round(rounding)
    truth = 1 / (1 + np.exp(-(logits + taste)))
    return (random.random(num_rows) < truth).astype(np.int8), logits, groups


def wins(click, other):
    return float(click > other) + 0.5 * float(click == other)


def pair_matrix(labels, logits):
    clicks, others = logits[labels == 1], logits[labels == 0]
    return np.array([[wins(click, other) for other in others] for click in clicks])


def test_the_standard_error_of_auc_is_delongs_by_the_double_loop():
    labels, logits, _ = drawn(90, rounding=1)
    pairs = pair_matrix(labels, logits)
    of_clicks, of_others = pairs.mean(axis=1), pairs.mean(axis=0)
    expected = of_clicks.var(ddof=1) / len(of_clicks)
    expected += of_others.var(ddof=1) / len(of_others)
    found = metric_intervals(labels, logits)["auc"]["standard_error"]
    assert found == pytest.approx(expected**0.5, abs=1e-12)


def test_the_grouped_standard_error_of_auc_is_obuchowskis_by_loops():
    labels, logits, groups = drawn(120, rounding=1, num_groups=15)
    pairs = pair_matrix(labels, logits)
    auc = pairs.mean()
    of_clicks, of_others = pairs.mean(axis=1), pairs.mean(axis=0)
    click_groups, other_groups = groups[labels == 1], groups[labels == 0]
    num_clicks, num_others = len(of_clicks), len(of_others)
    names = sorted(set(groups.tolist()))
    tens = {g: (of_clicks[click_groups == g] - auc).sum() for g in names}
    ones = {g: (of_others[other_groups == g] - auc).sum() for g in names}
    n10, n01 = len(set(click_groups.tolist())), len(set(other_groups.tolist()))
    n = len(names)
    s10 = n10 / ((n10 - 1) * num_clicks) * sum(v * v for v in tens.values())
    s01 = n01 / ((n01 - 1) * num_others) * sum(v * v for v in ones.values())
    s11 = n / (n - 1) * sum(tens[g] * ones[g] for g in names)
    expected = s10 / num_clicks + s01 / num_others
    expected += 2 * s11 / (num_clicks * num_others)
    found = metric_intervals(labels, logits, None, groups)["auc"]["standard_error"]
    assert found == pytest.approx(expected**0.5, abs=1e-12)


def test_the_standard_error_of_a_mean_is_the_textbook_one():
    labels, logits, _ = drawn(400)
    errors = (1 / (1 + np.exp(-logits)) - labels) ** 2
    found = metric_intervals(labels, logits)["brier"]
    expected = errors.std(ddof=1) / 20
    assert found["standard_error"] == pytest.approx(expected, rel=1e-12)
    assert found["high"] == pytest.approx(errors.mean() + 1.959964 * expected, rel=1e-6)
    assert found["low"] == pytest.approx(errors.mean() - 1.959964 * expected, rel=1e-6)


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_pull_is_the_derivative_of_the_metric_in_the_rows_weight(name, weighted):
    labels, logits, _ = drawn(60, rounding=1)
    # Rows of one score and weight, repeated: a derivative in weights by differences.
    weights = np.random.default_rng(1).uniform(0.5, 2, 60) if weighted else np.ones(60)
    estimate = ESTIMATES[name](check_rows(labels, logits, weights))
    base = compute_metrics(labels, logits, weights)[name]
    assert estimate.value == pytest.approx(base, rel=1e-12)
    assert estimate.pulls.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-6
    for row in range(60):
        moved = weights.copy()
        moved[row] *= 1 + step
        slope = (compute_metrics(labels, logits, moved)[name] - base) / step
        assert estimate.pulls[row] == pytest.approx(slope, abs=1e-6)


def test_the_standard_errors_agree_with_a_bootstrap():
    labels, logits, _ = drawn(3000, rounding=2)
    found = metric_intervals(labels, logits)
    random = np.random.default_rng(2)
    draws = [random.integers(0, 3000, 3000) for _ in range(200)]
    copies = [compute_metrics(labels[rows], logits[rows]) for rows in draws]
    for name in ESTIMATES:
        spread = np.std([copy[name] for copy in copies])
        # 200 copies know a standard deviation to 5 % of itself.
        assert found[name]["standard_error"] == pytest.approx(spread, rel=0.2), name


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_do_not_depend_on_the_order_of_rows(grouped: bool):
    labels, logits, ids = drawn(500, rounding=1, num_groups=40, spread=0.5)
    logits[:20] = np.repeat([0.0, -0.0], 10)
    weights = np.random.default_rng(3).integers(0, 3, 500)
    groups = np.ma.array(ids, mask=ids == 7) if grouped else None
    order = np.argsort(logits, kind="stable")
    found = [
        metric_intervals(
            labels[rows], logits[rows], weights[rows], groups[rows] if grouped else None
        )
        for rows in (np.arange(500), order, order[::-1])
    ]
    for name, entry in found[0].items():
        for other in found[1:]:
            if not isinstance(entry, dict):
                assert other[name] == entry
                continue
            assert other[name] == pytest.approx(entry, rel=1e-9), name


def test_only_the_intervals_that_are_named_are_computed():
    labels, logits, groups = drawn(300, num_groups=30)
    whole = metric_intervals(labels, logits, None, groups)
    heading = ("level", "unit", "num_units")
    for names in (("auc", "brier"), ("gauc",), ()):
        found = metric_intervals(labels, logits, None, groups, names=names)
        assert found == {name: whole[name] for name in (*heading, *names)}


def test_rows_of_a_group_count_as_one_unit_when_they_are_copies():
    labels, logits, _ = drawn(200)
    once = metric_intervals(labels, logits)
    groups = np.tile(np.arange(200), 5)
    five = metric_intervals(np.tile(labels, 5), np.tile(logits, 5), None, groups)
    assert five["unit"] == "group"
    assert five["num_units"] == 200
    for name in ESTIMATES:
        assert five[name]["standard_error"] == pytest.approx(
            once[name]["standard_error"], rel=1e-9
        ), name


def test_the_interval_of_grouped_auc_is_that_of_a_weighted_mean_over_groups():
    labels, logits, groups = drawn(400, rounding=1, num_groups=30)
    found = metric_intervals(labels, logits, None, groups)
    sizes, clicks, aucs = [], [], []
    for group in np.unique(groups):
        own = groups == group
        if 0 < labels[own].sum() < own.sum():
            sizes.append(own.sum())
            clicks.append(labels[own].sum())
            aucs.append(pair_matrix(labels[own], logits[own]).mean())
    for name, weights in (("gauc", sizes), ("gauc_by_clicks", clicks)):
        shares, values = np.array(weights) / sum(weights), np.array(aucs)
        mean = (shares * values).sum()
        n = len(values)
        expected = (n / (n - 1) * ((shares * (values - mean)) ** 2).sum()) ** 0.5
        assert found[name]["standard_error"] == pytest.approx(expected, rel=1e-9)
        assert found[name]["low"] == pytest.approx(mean - 1.959964 * expected, rel=1e-6)
    assert "gauc" not in metric_intervals(labels, logits)


def test_groups_of_one_row_and_missing_groups_change_nothing():
    labels, logits, _ = drawn(300)
    rows = metric_intervals(labels, logits)
    missing = np.ma.masked_all(300, dtype=np.int64)
    for groups in (np.arange(300) * 7 - 5, missing):
        found = metric_intervals(labels, logits, None, groups)
        assert found["num_units"] == 300
        for name in ESTIMATES:
            assert found[name]["standard_error"] == pytest.approx(
                rows[name]["standard_error"], rel=1e-9
            ), name


def test_rows_of_weight_zero_do_not_count_and_the_weights_scale_is_free():
    labels, logits, groups = drawn(300, num_groups=40)
    weights = np.random.default_rng(3).integers(0, 3, 300)
    kept = weights > 0
    expected = metric_intervals(labels[kept], logits[kept], weights[kept], groups[kept])
    assert metric_intervals(labels, logits, weights, groups) == expected
    scaled = metric_intervals(labels, logits, weights * 8.0, groups)
    assert scaled["auc"]["low"] == pytest.approx(expected["auc"]["low"], rel=1e-12)


def test_what_has_no_interval_is_left_out():
    keys = {"level", "unit", "num_units"}
    assert metric_intervals(np.zeros(0), np.zeros(0)).keys() == keys
    assert metric_intervals(np.ones(1), np.zeros(1)).keys() == keys
    one_class = metric_intervals(np.zeros(50), np.linspace(-1, 1, 50))
    assert one_class.keys() == keys | {"log_loss", "brier", "accuracy"}
    perfect = metric_intervals(np.arange(50) >= 25, np.arange(50) - 25.0)
    assert "auc" not in perfect
    wrong = metric_intervals(np.array([1, 0, 1, 0]), np.array([-np.inf, 0, 1, 1]))
    assert "log_loss" not in wrong
    assert "brier" in wrong
    one_group = metric_intervals(*drawn(50)[:2], None, np.zeros(50, dtype=int))
    assert one_group.keys() == keys


def test_intervals_stay_where_the_metric_can_lie():
    labels = np.r_[np.zeros(40), 1, 1, 1, 0]
    logits = np.r_[np.linspace(-3, -2, 40), 1, 2, 3, 2.5]
    found = metric_intervals(labels, logits)
    assert found["auc"]["high"] == 1.0
    assert found["calibration"]["low"] >= 0
    with pytest.raises(ValueError, match=r"shape \(44,\) as the labels, but .*\(3,\)"):
        metric_intervals(labels, logits, None, np.zeros(3))


def test_the_standard_error_takes_one_unit_for_no_sample():
    estimate = brier_estimate(check_rows(np.array([0, 1]), np.zeros(2), None))
    with pytest.raises(ValueError, match="fewer than two independent units"):
        standard_error(estimate, np.array([False, True]), np.zeros(2, dtype=int))


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_intervals_cover_the_population_value(spread):
    num_groups = 300 if spread else None
    population = drawn(
        2_000_000, seed=99, num_groups=200_000 if spread else None, spread=spread
    )
    truth = compute_metrics(*population[:2])
    covered = dict.fromkeys(ESTIMATES, 0)
    for seed in range(1000):
        labels, logits, groups = drawn(
            3000, seed=seed, num_groups=num_groups, spread=spread
        )
        found = metric_intervals(labels, logits, None, groups if spread else None)
        for name in ESTIMATES:
            inside = found[name]["low"] <= truth[name] <= found[name]["high"]
            covered[name] += inside
    # 0.95 of 1,000 has a standard error of 0.007; the population's own is small.
    assert {name: count for name, count in covered.items() if count < 925} == {}
    assert {name: count for name, count in covered.items() if count > 975} == {}
