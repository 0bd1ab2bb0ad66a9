"""Recalibrators against scipy's and scikit-learn's fits of the same definitions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dlrm.metrics.calibration import calibration, ece
from dlrm.metrics.recalibration import (
    METHODS,
    Beta,
    fit_recalibrator,
    recalibrator_from,
)
from dlrm.metrics.undefined import UndefinedMetricError

STRICT = ("platt", "temperature", "beta")


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))


def clicks_of(true_logits, seed):
    random = np.random.default_rng(seed)
    return (random.random(len(true_logits)) < sigmoid(true_logits)).astype(np.float32)


def drawn(num_rows=4000, seed=0, rate=-1.5, weighted=True):
    """Return labels, logits that are wrong in slope and level, and weights."""
    random = np.random.default_rng(seed)
    truth = random.normal(rate, 1.2, num_rows)
    logits = (1.7 * truth + 0.4).astype(np.float32)
    weights = random.choice([0.5, 1.0, 20.0], num_rows) if weighted else None
    return clicks_of(truth, seed + 1), logits, weights


def loss_at(coefficients, features, labels, weights):
    logits = features @ coefficients
    losses = np.logaddexp(0, np.where(labels > 0, -logits, logits))
    return np.average(losses, weights=weights)


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_is_logistic_regression_on_the_logit(weighted):
    labels, logits, weights = drawn(weighted=weighted)
    found = fit_recalibrator("platt", labels, logits, weights).record()
    other = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky")
    other.fit(logits[:, None].astype(np.float64), labels, sample_weight=weights)
    assert found["slope"] == pytest.approx(other.coef_[0, 0], rel=1e-7)
    assert found["intercept"] == pytest.approx(other.intercept_[0], rel=1e-7)


def test_temperature_is_the_best_single_factor():
    labels, logits, weights = drawn()
    found = fit_recalibrator("temperature", labels, logits, weights)
    wide = logits.astype(np.float64)[:, None]
    other = minimize(
        loss_at, [1.0], args=(wide, labels, weights), tol=1e-14, method="BFGS"
    )
    assert found.record()["slope"] == pytest.approx(other.x[0], rel=1e-5)
    assert found.record()["intercept"] == 0


@pytest.mark.parametrize("bend", ["neither", "low", "high"])
def test_beta_is_the_best_rising_map_of_two_logarithms(bend):
    labels, logits, weights = drawn()
    if bend != "neither":
        # Truth that turns round at one end: the factor of that end is at its bound.
        turned = logits < -1 if bend == "low" else logits > -1
        labels = clicks_of(np.where(turned, -1.0 - 0.6 * (logits + 1), logits), 3)
    found = fit_recalibrator("beta", labels, logits, weights).record()
    p = sigmoid(logits)
    features = np.stack([np.log(p), -np.log1p(-p), np.ones(len(p))], axis=1)
    other = minimize(
        loss_at,
        [0.5, 0.5, 0.0],
        args=(features, labels, weights),
        method="L-BFGS-B",
        bounds=[(0, None), (0, None), (None, None)],
        options={"ftol": 1e-16, "gtol": 1e-10, "maxiter": 5000},
    )
    mine = loss_at([found[name] for name in "abc"], features, labels, weights)
    assert mine <= other.fun + 1e-12
    assert [found[name] for name in "abc"] == pytest.approx(other.x, abs=2e-3)
    bound = {"neither": (), "low": ("a",), "high": ("b",)}[bend]
    assert [name for name in "ab" if found[name] == 0] == list(bound)


@pytest.mark.parametrize("num_rows", [7, 300, 6000])
def test_isotonic_is_scikit_learns_kept_off_0_and_1(num_rows):
    labels, logits, weights = drawn(num_rows, seed=num_rows)
    labels[:2] = [0, 1]
    logits = np.round(logits, 2).astype(np.float32)
    found = fit_recalibrator("isotonic", labels, logits, weights)
    low = 0.5 * weights[labels == 1].min() / weights.sum()
    high = 1 - 0.5 * weights[labels == 0].min() / weights.sum()
    other = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip")
    other.fit(logits.astype(np.float64), labels.astype(np.float64), weights)
    asked = np.concatenate([logits, np.linspace(-30, 30, 501)])
    np.testing.assert_allclose(
        sigmoid(found.apply(asked)), other.predict(asked), atol=1e-12
    )


def test_isotonic_pools_long_falling_runs_as_short_ones():
    # Sorted against the labels: one block; and a saw, which pools in many rounds.
    logits = np.arange(20_000, dtype=np.float64)
    for labels in (np.arange(20_000) < 9_000, np.arange(20_000) % 7 < 3):
        found = fit_recalibrator("isotonic", labels.astype(int), logits)
        other = IsotonicRegression(y_min=1 / 40_000, y_max=1 - 1 / 40_000)
        expected = other.fit_transform(logits, labels.astype(float))
        np.testing.assert_allclose(sigmoid(found.apply(logits)), expected, atol=1e-12)


def test_isotonic_of_separated_rows_gives_neither_0_nor_1():
    found = fit_recalibrator("isotonic", np.array([0, 0, 1, 1]), np.arange(4.0))
    chances = sigmoid(found.apply(np.array([-np.inf, 0.0, 1.0, 2.0, 3.0, np.inf])))
    np.testing.assert_allclose(chances, [1 / 8] * 3 + [7 / 8] * 3, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_recalibration_undoes_doubled_logits(method):
    random = np.random.default_rng(2)
    truth = random.normal(-2.0, 1.3, 200_000)
    labels, doubled = clicks_of(truth, 3), (2 * truth).astype(np.float32)
    fitted, held_out = slice(0, 100_000), slice(100_000, None)
    found = fit_recalibrator(method, labels[fitted], doubled[fitted])
    y, raw = labels[held_out], doubled[held_out]
    after = found.apply(raw)
    assert ece(y, after) <= 0.2 * ece(y, raw)
    assert calibration(y, after) == pytest.approx(1, abs=0.05)
    if method in STRICT:
        assert found.strictly_monotone
        assert roc_auc_score(y, after) == roc_auc_score(y, raw)


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic"])
def test_the_rows_fitted_get_as_many_promised_clicks_as_came(method):
    labels, logits, weights = drawn()
    found = fit_recalibrator(method, labels, logits, weights)
    after = sigmoid(found.apply(logits))
    promised = np.average(after, weights=weights)
    came = np.average(labels, weights=weights)
    assert promised == pytest.approx(came, rel=1e-3 if method == "isotonic" else 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_comes_back_from_json_to_the_bit(method):
    labels, logits, weights = drawn()
    found = fit_recalibrator(method, labels, logits, weights)
    again = recalibrator_from(json.loads(json.dumps(found.record())))
    assert again == found
    np.testing.assert_array_equal(again.apply(logits), found.apply(logits))


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_rows_changes_a_map_by_rounding_alone(method):
    labels, logits, weights = drawn()
    order = np.random.default_rng(9).permutation(len(labels))
    first = fit_recalibrator(method, labels, logits, weights)
    second = fit_recalibrator(method, labels[order], logits[order], weights[order])
    grid = np.linspace(-8, 8, 99)
    np.testing.assert_allclose(first.apply(grid), second.apply(grid), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_is_that_many_rows(method):
    labels, logits, _ = drawn(500)
    times = np.random.default_rng(4).integers(0, 4, 500)
    weighed = fit_recalibrator(method, labels, logits, times)
    repeated = fit_recalibrator(
        method, np.repeat(labels, times), np.repeat(logits, times)
    )
    grid = logits[times > 0]
    # The lightest click has weight 1 in both, so that even the clips are one.
    np.testing.assert_allclose(weighed.apply(grid), repeated.apply(grid), atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_the_map_never_falls_and_keeps_nan_and_the_ends(method):
    labels, logits, weights = drawn()
    found = fit_recalibrator(method, labels, logits, weights)
    after = found.apply(np.linspace(-60, 60, 4001))
    assert (np.diff(after) >= 0).all()
    assert np.isnan(found.apply(np.array([np.nan]))).all()
    ends = found.apply(np.array([-np.inf, np.inf], dtype=np.float32))
    assert ends[0] <= after[0] <= after[-1] <= ends[1]


def test_beta_with_a_flat_end_takes_infinite_logits():
    ends = np.array([-np.inf, np.inf])
    assert Beta(1.0, 0.0, 0.5).apply(ends).tolist() == [-np.inf, 0.5]
    assert Beta(0.0, 1.0, 0.5).apply(ends).tolist() == [0.5, np.inf]
    assert not Beta(0.0, 1.0, 0.5).strictly_monotone


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(-4, 4), st.integers(0, 3)),
        min_size=2,
        max_size=30,
    )
)
def test_any_rows_are_fitted_or_refused_by_a_reason(rows):
    labels, logits, weights = np.array(rows, dtype=float).T
    for method in METHODS:
        try:
            found = fit_recalibrator(method, labels, logits, weights)
        except UndefinedMetricError:
            continue
        after = found.apply(np.linspace(-9, 9, 37))
        assert np.isfinite(after).all()
        assert (np.diff(after) >= 0).all()
        recalibrator_from(found.record())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "logits", "reason"),
    [
        ([1, 1], [0.0, 1.0], "one class"),
        ([0, 0], [0.0, 1.0], "one class"),
        ([], [], "no rows"),
        ([0, 1, 1], [0.0, np.nan, 1.0], "1 of 3 scores are NaN"),
        ([0, 1, 1], [0.0, np.inf, 1.0], "1 of 3 logits not finite"),
    ],
)
def test_rows_that_say_too_little_are_refused(method, labels, logits, reason):
    with pytest.raises(UndefinedMetricError, match=reason):
        fit_recalibrator(method, np.array(labels), np.array(logits))


@pytest.mark.parametrize("method", STRICT)
@pytest.mark.parametrize(
    ("labels", "logits", "reason"),
    [
        ([0, 0, 1, 1], [-2.0, -1.0, 1.0, 2.0], "separates? the clicks"),
        ([1, 0, 1, 0], [-2.0, -1.0, 1.0, 2.0], "no better than chance"),
    ],
)
def test_logits_without_a_best_rising_map_are_refused(method, labels, logits, reason):
    with pytest.raises(UndefinedMetricError, match=reason):
        fit_recalibrator(method, np.array(labels), np.array(logits))


def test_an_unknown_method_and_a_damaged_record_are_refused():
    with pytest.raises(ValueError, match="platt, isotonic, temperature, beta"):
        fit_recalibrator("plat", np.array([0, 1]), np.array([0.0, 1.0]))
    for record in (
        {},
        {"method": "other"},
        {"method": "platt", "slope": -1.0, "intercept": 0.0},
        {"method": "platt", "slope": 1.0},
        {"method": "beta", "a": 0.0, "b": 0.0, "c": 1.0},
        {"method": "isotonic", "logits": [1.0, 0.0], "probabilities": [0.1, 0.2]},
        {"method": "isotonic", "logits": [0.0], "probabilities": [1.0]},
        {"method": "isotonic", "logits": [], "probabilities": []},
    ):
        with pytest.raises(ValueError, match="A recalibrator must have"):
            recalibrator_from(record)
