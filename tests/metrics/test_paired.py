"""Variances, intervals, p-values and power of a paired difference."""

import math

import numpy as np
import pytest
from scipy import stats

from dlrm.metrics.paired import (
    PairedDifference,
    Variance,
    add_variances,
    ratio_difference,
    seed_variance,
)
from dlrm.metrics.undefined import UndefinedMetricError

RANDOM = np.random.default_rng(3)


def test_of_means_it_is_the_paired_t_test():
    ours, theirs = RANDOM.normal(size=40) + 0.3, RANDOM.normal(size=40)
    found = ratio_difference(ours - theirs, np.ones(40))
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(0.95)
    assert found.difference == pytest.approx((ours - theirs).mean())
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_seeds_of_two_models_are_welchs_t_test():
    ours, theirs = RANDOM.normal(size=5), 3 * RANDOM.normal(size=3)
    found = PairedDifference(
        ours.mean() - theirs.mean(), Variance(), seed_variance(ours, theirs)
    )
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.df == pytest.approx(expected.df)
    assert found.p_value == pytest.approx(expected.pvalue)


def test_one_seed_tells_nothing_of_seeds():
    assert seed_variance(np.array([0.7]), np.array([0.8])) == Variance()


def test_rows_and_seeds_add_up_with_the_degrees_of_welch_and_satterthwaite():
    found = add_variances(Variance(4.0, 100.0), Variance(2.0, 2.0))
    assert found.value == 6.0
    assert found.df == pytest.approx(6.0**2 / (4.0**2 / 100 + 2.0**2 / 2))
    assert add_variances(Variance(), Variance()) == Variance(0.0, math.inf)


def test_a_ratio_of_sums_moves_as_its_rows_are_left_out():
    # The jackknife, by brute force, agrees with the linear terms where rows are many.
    gains, shares = RANDOM.normal(size=400), RANDOM.uniform(0.5, 1.5, size=400)
    weights = RANDOM.uniform(0.1, 2.0, size=400)
    found = ratio_difference(gains, shares, weights=weights)
    left_out = []
    for row in range(400):
        kept = np.arange(400) != row
        left_out.append(
            np.sum((weights * gains)[kept]) / np.sum((weights * shares)[kept])
        )
    jackknife = 399 / 400 * np.sum((left_out - np.mean(left_out)) ** 2)
    expected = np.sum(weights * gains) / np.sum(weights * shares)
    assert found.difference == pytest.approx(expected)
    assert found.row_error == pytest.approx(math.sqrt(jackknife), rel=0.01)


def test_rows_of_a_cluster_are_added_up_first():
    gains, codes = RANDOM.normal(size=30), np.repeat(np.arange(10), 3)
    found = ratio_difference(gains, np.ones(30), codes=codes)
    means = gains.reshape(10, 3).mean(axis=1)
    expected = stats.ttest_1samp(means, 0.0)
    assert found.p_value == pytest.approx(expected.pvalue)
    # A cluster twice in a row is no new evidence: the naive error would shrink.
    twice = ratio_difference(
        np.repeat(gains, 2), np.ones(60), codes=np.repeat(codes, 2)
    )
    assert twice.row_error == pytest.approx(found.row_error)


def test_no_difference_for_sure():
    found = ratio_difference(np.zeros(5), np.ones(5))
    assert (found.difference, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)
    assert found.detectable is None


def test_a_sure_difference_has_no_chance():
    assert PairedDifference(0.1, Variance()).p_value == 0.0


def test_the_detectable_difference_is_found_four_times_in_five():
    error, df = 0.01, 50.0
    detectable = PairedDifference(0.0, Variance(error**2, df)).detectable
    assert detectable is not None
    random = np.random.default_rng(0)
    estimates = detectable + error * random.normal(size=20_000)
    errors = error * np.sqrt(random.chisquare(df, size=20_000) / df)
    found = np.abs(estimates / errors) > stats.t.ppf(0.975, df)
    assert found.mean() == pytest.approx(0.80, abs=0.01)


def test_one_row_varies_in_nothing():
    with pytest.raises(UndefinedMetricError, match="fewer than two"):
        ratio_difference(np.ones(1), np.ones(1))
    with pytest.raises(UndefinedMetricError, match="fewer than two"):
        ratio_difference(np.ones(4), np.ones(4), codes=np.zeros(4, dtype=np.int64))


def test_nothing_to_divide_by_is_undefined():
    with pytest.raises(UndefinedMetricError, match="nothing to divide by"):
        ratio_difference(np.ones(4), np.zeros(4))
