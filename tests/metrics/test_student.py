"""Student's t agrees with scipy's, which computes it in another way."""

import math

import numpy as np
import pytest
from scipy import stats

from dlrm.metrics import student

DEGREES = (1, 1.5, 2, 3.7, 10, 99.5, 1e4, 1e6)


@pytest.mark.parametrize("df", DEGREES)
def test_the_two_sided_p_value_is_that_of_the_definition(df: float):
    values = np.array([1e-6, 0.01, 0.3, 1.0, 1.96, 5.0, 30.0])
    expected = 2 * stats.t.sf(values, df)
    found = [student.two_sided_p(sign * t, df) for t in values for sign in (1, -1)]
    np.testing.assert_allclose(found, np.repeat(expected, 2), rtol=1e-8)


@pytest.mark.parametrize("df", DEGREES)
def test_quantiles_are_those_of_the_definition(df: float):
    probabilities = (0.001, 0.025, 0.2, 0.5, 0.8, 0.975, 0.9999)
    found = [student.quantile(p, df) for p in probabilities]
    np.testing.assert_allclose(found, stats.t.ppf(probabilities, df), rtol=1e-7)


def test_far_out_one_degree_of_freedom_is_cauchys_distribution():
    for beyond in (1e-3, 1e-7, 1e-12):
        expected = 1 / math.tan(math.pi * beyond)
        assert student.two_sided_p(expected, 1) == pytest.approx(2 * beyond, rel=1e-12)
        assert student.quantile(beyond, 1) == pytest.approx(-expected, rel=1e-12)


def test_without_bounds_on_the_degrees_it_is_the_normal_distribution():
    assert student.two_sided_p(1.0, math.inf) == pytest.approx(2 * stats.norm.sf(1.0))
    assert student.quantile(0.975, math.inf) == pytest.approx(stats.norm.ppf(0.975))


def test_the_ends_of_the_range():
    assert student.two_sided_p(0.0, 3.0) == 1.0
    assert student.two_sided_p(math.inf, 3.0) == 0.0
    assert student.quantile(0.5, 3.0) == 0.0


@pytest.mark.parametrize(("t", "df"), [(math.nan, 2.0), (1.0, 0.0), (1.0, -1.0)])
def test_what_has_no_p_value_is_refused(t: float, df: float):
    with pytest.raises(ValueError, match=f"but got {df} and {t}"):
        student.two_sided_p(t, df)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1])
def test_a_quantile_of_no_probability_is_refused(probability: float):
    with pytest.raises(ValueError, match=f"but it is {probability}"):
        student.quantile(probability, 5.0)
