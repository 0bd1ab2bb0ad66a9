import math

import numpy as np
import pytest

from dlrm.metrics.promises import calibration_test, holm, log_loss_test

MILLION = 1_000_000


def draw(num_rows, *, mean=-2.0, seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(mean, 1.0, num_rows)
    labels = (random.random(num_rows) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    return labels, logits


def test_the_calibration_statistic_is_clicks_less_promises_in_standard_errors():
    labels, logits = draw(20_000)
    p = 1 / (1 + np.exp(-logits))
    weights = np.random.default_rng(1).uniform(0.5, 2, 20_000)
    expected = sum(w * (y - q) for w, y, q in zip(weights, labels, p, strict=True))
    error = math.sqrt(sum(w * w * q * (1 - q) for w, q in zip(weights, p, strict=True)))
    found = calibration_test(labels, logits, weights)
    # The skewness of so many rows moves z in the second decimal.
    assert found.z == pytest.approx(expected / error, abs=0.05)
    assert found.excess == pytest.approx(expected / weights.sum(), rel=1e-9)


def test_the_log_loss_excess_is_log_loss_less_entropy():
    labels, logits = draw(5_000)
    p = 1 / (1 + np.exp(-logits))
    loss = np.where(labels > 0, -np.log(p), -np.log1p(-p))
    entropy = -p * np.log(p) - (1 - p) * np.log1p(-p)
    found = log_loss_test(labels, logits, np.ones(5_000))
    assert found.excess == pytest.approx(np.mean(loss - entropy), rel=1e-9)
    variance = np.mean((loss - entropy) ** 2)
    assert found.z == pytest.approx(
        found.excess * math.sqrt(5_000 / variance), rel=0.05, abs=0.05
    )


def test_a_rare_click_rate_is_tested_as_the_poisson_distribution_says():
    scipy_stats = pytest.importorskip("scipy.stats")
    # 40 clicks expected of 40,000 rows: the normal distribution is off by a factor.
    logits = np.full(40_000, math.log(0.001 / 0.999))
    for clicks in (20, 25, 55, 60, 65):
        labels = np.zeros(40_000)
        labels[:clicks] = 1
        found = calibration_test(labels, logits, np.ones(40_000))
        above = clicks > 40
        poisson = scipy_stats.poisson(40)
        # Halves of the count itself, as the statistic knows no steps.
        tail = (poisson.sf(clicks) if above else poisson.cdf(clicks - 1)) + (
            0.5 * poisson.pmf(clicks)
        )
        assert found.p / 2 == pytest.approx(tail, rel=0.35)
        assert (found.z > 0) == above


def test_too_few_clicks_are_not_tested_at_all():
    logits = np.full(1_000, math.log(0.005 / 0.995))
    assert calibration_test(np.zeros(1_000), logits, np.ones(1_000)) is None
    logits[0] = math.inf
    assert calibration_test(np.zeros(1_000), logits, np.ones(1_000)) is None


@pytest.mark.parametrize("test", [calibration_test, log_loss_test])
@pytest.mark.parametrize("mean", [-4.0, -1.0, 2.0])
def test_right_probabilities_are_called_wrong_as_often_as_the_level_says(test, mean):
    p_values = [
        test(*draw(3_000, mean=mean, seed=seed), np.ones(3_000)).p
        for seed in range(400)
    ]
    # 400 looks at 10 %: 40 expected, 6 the standard deviation.
    assert 20 <= np.count_nonzero(np.array(p_values) < 0.1) <= 62


def test_rows_of_a_group_that_go_astray_together_are_no_false_alarm():
    alarms = {"rows": 0, "groups": 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        groups = np.repeat(np.arange(100), 30)
        logits = random.normal(-1, 0.5, 3_000)
        # Each group has a taste of its own that the model does not know.
        taste = np.repeat(random.normal(0, 0.8, 100), 30)
        chance = np.mean(
            1 / (1 + np.exp(-(logits[:, None] + random.normal(0, 0.8, 200)))), axis=1
        )
        drawn = 1 / (1 + np.exp(-(logits + taste)))
        labels = (random.random(3_000) < drawn).astype(float)
        told = np.log(chance / (1 - chance))
        for name, of in (("rows", None), ("groups", np.ma.array(groups))):
            found = calibration_test(labels, told, np.ones(3_000), of)
            alarms[name] += found.p < 0.05
    assert alarms["rows"] > 40
    assert alarms["groups"] <= 20


def test_thinned_non_clicks_with_weights_are_no_false_alarm_and_no_blindness():
    alarms, seen = 0, 0
    for seed in range(300):
        labels, logits = draw(40_000, mean=-3, seed=seed)
        random = np.random.default_rng(seed + MILLION)
        kept = (labels > 0) | (random.random(40_000) < 0.1)
        weights = np.where(labels > 0, 1.0, 10.0)[kept]
        arrays = labels[kept], logits[kept]
        alarms += calibration_test(*arrays, weights, sampled=True).p < 0.05
        arrays = labels[kept], logits[kept] + 0.15
        seen += calibration_test(*arrays, weights, sampled=True).p < 0.05
    assert 4 <= alarms <= 28
    assert seen > 250


def test_holm_steps_down_from_the_smallest():
    # 4 x 0.01, 3 x 0.02, 2 x 0.03, then never below what came before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]
