import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.calibration import (
    debiased_square_of_bins,
    ece,
    ece_debiased,
    ece_equal_width,
    equal_width_bins,
    reliability_bins,
)
from dlrm.metrics.link import logits_from_probabilities, probabilities_from_logits
from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError
from tests.metrics import by_hand


@st.composite
def rows(draw):
    found = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.one_of(st.floats(-20, 20), st.sampled_from([-1.0, 0.0, 2.0])),
                st.sampled_from([0.1, 0.3, 1.0, 5.0]),
            ),
            min_size=1,
            max_size=60,
        )
    )
    labels, logits, weights = zip(*found, strict=True)
    if draw(st.booleans()):
        weights = np.ones(len(labels))
    return np.array(labels), np.array(logits), np.array(weights)


@settings(max_examples=80, deadline=None)
@given(rows(), st.randoms(use_true_random=False))
def test_both_forms_are_the_loop_in_any_row_order(columns, random):
    labels, logits, weights = columns
    order = random.sample(range(len(labels)), len(labels))
    shuffled = [column[order] for column in columns]
    by_width = by_hand.filled_bins(by_hand.width_bins(logits), *columns)
    found = ece_equal_width(*shuffled)
    assert found == pytest.approx(by_hand.ece(by_width), abs=1e-12)
    by_mass = by_hand.filled_bins(by_hand.mass_bins(logits, weights), *columns)
    square = by_hand.debiased_square(by_mass)
    if square is None:
        with pytest.raises(UndefinedMetricError, match="no bin of two rows"):
            ece_debiased(*shuffled)
        return
    bins = reliability_bins(tabulate_scores(check_rows(*shuffled)))
    assert debiased_square_of_bins(bins) == pytest.approx(square, abs=1e-12)
    # The root of a number near 0 is less exact than the number.
    assert ece_debiased(*shuffled) ** 2 == pytest.approx(max(square, 0), abs=1e-12)


def test_bins_of_equal_width_hold_their_lower_edge():
    edges = logits_from_probabilities(np.arange(1, 20) / 20)
    logits = np.concatenate([[-np.inf], edges, [np.inf]])
    table = tabulate_scores(check_rows(np.zeros(21), logits, None))
    bins = equal_width_bins(table)
    assert bins.weight.tolist() == [1.0] * 19 + [2.0]
    np.testing.assert_allclose(bins.lowest, np.arange(20) / 20, atol=1e-15)
    below = tabulate_scores(check_rows(np.zeros(1), np.nextafter(edges[:1], -9), None))
    assert equal_width_bins(below).highest[0] < 0.05


def test_rare_clicks_share_one_bin_of_equal_width_which_hides_their_errors():
    # Half of the rows are promised 1 % and click at 3 %, half the other way around.
    logits = np.repeat(logits_from_probabilities(np.array([0.01, 0.03])), 100)
    labels = np.concatenate([np.arange(100) < 3, np.arange(100) < 1])
    assert ece_equal_width(labels, logits) == pytest.approx(0, abs=1e-15)
    assert ece(labels, logits) == pytest.approx(0.02, abs=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_noise_alone_lifts_ece_but_not_the_mean_of_the_debiased_square(weighted):
    """Over 300 calibrated samples the mean is 0 within 3.3 of its standard errors."""
    random = np.random.default_rng(11)
    squares, plain = [], []
    for _ in range(300):
        logits = random.normal(-2, 1, 400)
        labels = random.random(400) < probabilities_from_logits(logits)
        weights = random.choice([0.5, 1.0, 4.0], 400) if weighted else None
        bins = reliability_bins(tabulate_scores(check_rows(labels, logits, weights)))
        squares.append(debiased_square_of_bins(bins))
        plain.append(ece(labels, logits, weights))
    error = np.std(squares) / math.sqrt(len(squares))
    assert abs(np.mean(squares)) < 3.3 * error
    assert np.mean(plain) > 0.04
    assert min(squares) < 0 < max(squares)


def test_a_true_error_is_found_whatever_the_number_of_rows():
    """Logits doubled; the error of a million rows, noise of 1e-3, is the measure."""
    random = np.random.default_rng(5)

    def sample(num_rows):
        logits = random.normal(-1, 1, num_rows)
        labels = random.random(num_rows) < probabilities_from_logits(logits)
        return labels, 2 * logits

    expected = ece_debiased(*sample(1_000_000))
    found = [ece_debiased(*sample(500)) ** 2 for _ in range(200)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - expected**2) < 3.3 * error + 1e-4


def test_less_error_than_noise_is_none():
    logits = np.zeros(40) + np.repeat([0.0, 1e-3], 20)
    assert ece_debiased(np.arange(40) % 2, logits) == 0


@pytest.mark.parametrize("metric", [ece_equal_width, ece_debiased])
def test_nan_logits_and_no_rows_are_undefined(metric):
    with pytest.raises(UndefinedMetricError, match="1 of 1 scores are NaN"):
        metric(np.array([1]), np.array([np.nan]))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        metric(np.zeros(0), np.zeros(0))
