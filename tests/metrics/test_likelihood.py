import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from dlrm.metrics.likelihood import (
    brier,
    log_loss,
    log_loss_from_probabilities,
    normalized_entropy,
    relative_information_gain,
)
from dlrm.metrics.link import (
    clip_probabilities,
    logits_from_probabilities,
    probabilities_from_logits,
)
from dlrm.metrics.undefined import UndefinedMetricError


def loss_of_one_row(label, logit):
    """-log(sigmoid) by its series where the exponential is too small for log1p."""
    wrong_way = -logit if label else logit
    if wrong_way > 700:
        return wrong_way
    return math.log1p(math.exp(wrong_way))


@st.composite
def logit_rows(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.floats(-900, 900, width=32),
                st.sampled_from([0.0, 0.25, 1.0, 7.0]),
            ),
            max_size=20,
        )
    )
    labels, logits, weights = zip(*rows, (0, 0.5, 1.0), (1, -0.5, 2.0), strict=True)
    return np.array(labels), np.array(logits), np.array(weights)


@settings(max_examples=200, deadline=None)
@given(logit_rows())
def test_log_loss_is_the_weighted_mean_of_the_rows_losses(rows):
    labels, logits, weights = rows
    losses = [loss_of_one_row(*pair) for pair in zip(labels, logits, strict=True)]
    expected = math.fsum(np.multiply(losses, weights)) / weights.sum()
    assert log_loss(labels, logits, weights) == pytest.approx(expected, rel=1e-13)
    assert log_loss(labels, logits) == pytest.approx(np.mean(losses), rel=1e-13)


def test_log_loss_of_saturated_logits_is_exact_in_both_float_widths():
    for dtype in (np.float32, np.float64):
        logits = np.array([40.0, -40.0], dtype=dtype)
        right = log_loss(np.array([1, 0]), logits)
        assert right == pytest.approx(math.exp(-40), rel=1e-12)
        wrong = log_loss(np.array([0, 1]), logits)
        assert wrong == pytest.approx(40 + math.exp(-40), rel=1e-15)


def test_log_loss_equals_scikit_learn_over_many_blocks_of_rows():
    random = np.random.default_rng(0)
    labels = (random.random(200_000) < 0.001).astype(np.int8)
    logits = random.normal(-5, 2, size=200_000)
    weights = random.exponential(size=200_000)
    probabilities = probabilities_from_logits(logits)
    expected = sklearn_log_loss(labels, probabilities, sample_weight=weights)
    assert log_loss(labels, logits, weights) == pytest.approx(expected, abs=1e-12)
    found = log_loss_from_probabilities(labels, probabilities, weights)
    assert found.log_loss == pytest.approx(expected, abs=1e-12)
    assert found.num_clipped == 0
    expected = brier_score_loss(labels, probabilities, sample_weight=weights)
    assert brier(labels, logits, weights) == pytest.approx(expected, abs=1e-14)


def test_probabilities_of_zero_and_one_are_clipped_after_widening_and_counted():
    probabilities = np.array([0.0, 1.0, 1.0, 0.5], dtype=np.float32)
    found = log_loss_from_probabilities(np.array([1, 0, 1, 1]), probabilities)
    losses = [52 * math.log(2)] * 2 + [-math.log1p(-(2.0**-52)), math.log(2)]
    assert found.log_loss == pytest.approx(math.fsum(losses) / 4, rel=1e-14)
    assert found.num_clipped == 3


def test_a_probability_outside_zero_to_one_is_refused():
    with pytest.raises(ValueError, match=r"they span -0\.5 to 1\.25"):
        log_loss_from_probabilities(np.array([0, 1]), np.array([-0.5, 1.25]))


def test_an_infinite_logit_costs_nothing_if_right_and_has_no_loss_if_wrong():
    labels, logits = np.array([1, 0]), np.array([np.inf, -np.inf])
    assert log_loss(labels, logits) == 0.0
    with pytest.raises(UndefinedMetricError, match="infinite logit on the wrong side"):
        log_loss(1 - labels, logits)
    assert brier(1 - labels, logits) == 1.0


def test_normalized_entropy_of_the_best_constant_is_one():
    labels, weights = np.array([1, 0, 0, 1]), np.array([2.0, 1.0, 4.0, 1.0])
    rate = 3.0 / 8.0
    constant = np.full(4, math.log(rate / (1 - rate)))
    assert normalized_entropy(labels, constant, weights) == pytest.approx(1, abs=1e-15)


def test_normalized_entropy_divides_by_the_evaluated_rows_own_entropy():
    random = np.random.default_rng(3)
    labels, logits = random.integers(0, 2, 50), random.normal(size=50)
    rate = labels.mean()
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    expected = log_loss(labels, logits) / entropy
    assert normalized_entropy(labels, logits) == pytest.approx(expected, rel=1e-14)
    with pytest.raises(UndefinedMetricError, match="one class"):
        normalized_entropy(np.ones(3), np.zeros(3))


def test_information_gain_is_the_share_of_the_entropy_explained():
    labels, weights = np.array([1, 0, 0, 1]), np.array([2.0, 1.0, 4.0, 1.0])
    logits = np.array([2.0, -1.0, -0.5, 0.3])
    rate = 3.0 / 8.0
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    gained = entropy - log_loss(labels, logits, weights)
    found = relative_information_gain(labels, logits, weights)
    assert found == pytest.approx(gained / entropy, abs=1e-14)
    constant = np.full(4, math.log(rate / (1 - rate)))
    gain_of_rate = relative_information_gain(labels, constant, weights)
    assert gain_of_rate == pytest.approx(0, abs=1e-15)
    with pytest.raises(UndefinedMetricError, match="one class"):
        relative_information_gain(np.ones(3), np.zeros(3))


def test_one_class_has_a_log_loss_and_a_brier_score():
    assert log_loss(np.ones(3), np.zeros(3)) == pytest.approx(math.log(2), rel=1e-15)
    assert brier(np.zeros(3), np.zeros(3)) == 0.25


@pytest.mark.parametrize("metric", [log_loss, normalized_entropy, brier])
def test_nan_logits_and_no_rows_have_no_likelihood(metric):
    with pytest.raises(UndefinedMetricError, match="1 of 2 scores are NaN"):
        metric(np.array([0, 1]), np.array([np.nan, 1.0]))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        metric(np.zeros(0), np.zeros(0))


def test_the_link_neither_overflows_nor_loses_small_probabilities():
    with np.errstate(over="raise"):
        found = probabilities_from_logits(np.array([-np.inf, -700, 0, 40, np.inf]))
    expected = [0.0, math.exp(-700), 0.5, 1.0, 1.0]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_logits_of_probabilities_keep_their_order_and_lead_back(probabilities):
    wide = np.sort(np.array(probabilities))
    logits = logits_from_probabilities(wide)
    assert (logits[1:] >= logits[:-1]).all()
    back = probabilities_from_logits(logits)
    np.testing.assert_allclose(back, wide, rtol=1e-12, atol=1e-16)


def test_zero_and_one_are_infinite_logits_and_distinct_float32_stay_apart():
    found = logits_from_probabilities(np.array([0, 0.5, 1], dtype=np.float32))
    assert found.tolist() == [-np.inf, 0.0, np.inf]
    near = np.float32(0.5) + np.arange(4, dtype=np.float32) * np.float32(2.0**-24)
    assert (np.diff(logits_from_probabilities(np.unique(near))) > 0).all()


def test_clipping_leaves_nan_and_does_not_count_it():
    found = clip_probabilities(np.array([np.nan, 0.0, 1e-17, 0.25, 1.0]))
    assert found.num_clipped == 3
    expected = [np.nan, 2.0**-52, 2.0**-52, 0.25, 1 - 2.0**-52]
    np.testing.assert_array_equal(found.probabilities, expected)
