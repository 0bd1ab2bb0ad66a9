import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.calibration import calibration, ece, reliability_bins
from dlrm.metrics.rows import Rows
from dlrm.metrics.score_table import tabulate_scores
from dlrm.metrics.thresholds import accuracy
from dlrm.metrics.undefined import UndefinedMetricError


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def binned_ece(labels, logits, weights, num_bins=20):
    """The definition as a loop: a tie goes to the bin of the middle of its mass."""
    total = sum(weights)
    bins = {}
    below = 0.0
    for logit in sorted(set(logits)):
        tie = [i for i in range(len(logits)) if logits[i] == logit]
        mass = sum(weights[i] for i in tie)
        place = (below + mass / 2) / total * num_bins
        bins.setdefault(min(math.floor(place + 1e-9), num_bins - 1), []).extend(tie)
        below += mass
    gaps = 0.0
    for members in bins.values():
        promised = sum(weights[i] * sigmoid(logits[i]) for i in members)
        came = sum(weights[i] * labels[i] for i in members)
        gaps += abs(promised - came)
    return gaps / total


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
    return tuple(np.array(column) for column in zip(*found, strict=True))


@settings(max_examples=200, deadline=None)
@given(rows(), st.booleans(), st.randoms(use_true_random=False))
def test_ece_equals_the_loop_in_any_row_order(columns, weighted, random):
    labels, logits, weights = columns
    counted = weights if weighted else np.ones(len(labels))
    expected = binned_ece(labels.tolist(), logits.tolist(), counted.tolist())
    order = np.array(random.sample(range(len(labels)), len(labels)))
    found = ece(labels[order], logits[order], counted[order] if weighted else None)
    assert found == pytest.approx(expected, abs=1e-12)


def test_without_ties_the_bins_are_equal_in_mass_and_cover_all_rows():
    logits = np.random.default_rng(0).permutation(400) / 40 - 5
    labels = np.arange(400) % 7 == 0
    bins = reliability_bins(tabulate_scores(Rows(labels, logits, None)))
    np.testing.assert_array_equal(bins.weight, np.full(20, 20.0))
    assert (bins.highest[:-1] < bins.lowest[1:]).all()
    assert (bins.lowest <= bins.mean_probability).all()
    assert (bins.mean_probability <= bins.highest).all()
    clicks = float(np.sum(bins.weight * bins.click_rate))
    assert clicks == pytest.approx(labels.sum(), abs=1e-9)


def test_a_constant_model_has_one_bin():
    labels = np.array([True, False, False, False])
    bins = reliability_bins(tabulate_scores(Rows(labels, np.zeros(4), None)))
    assert bins.weight.tolist() == [4.0]
    assert bins.click_rate.tolist() == [0.25]
    assert ece(labels, np.zeros(4)) == 0.25


def test_a_perfectly_calibrated_model_has_no_error():
    logits = np.repeat([math.log(1 / 3), math.log(3)], 4)
    labels = np.array([1, 0, 0, 0, 1, 1, 1, 0])
    assert ece(labels, logits) == pytest.approx(0, abs=1e-15)
    assert calibration(labels, logits) == pytest.approx(1, abs=1e-15)


@settings(max_examples=100, deadline=None)
@given(rows())
def test_calibration_is_promised_clicks_over_clicks(columns):
    labels, logits, weights = columns
    clicks = float(np.sum(weights * labels))
    if clicks == 0:
        with pytest.raises(UndefinedMetricError, match="no clicks"):
            calibration(labels, logits, weights)
        return
    promised = math.fsum(w * sigmoid(z) for w, z in zip(weights, logits, strict=True))
    found = calibration(labels, logits, weights)
    assert found == pytest.approx(promised / clicks, rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(rows())
def test_accuracy_is_the_weight_of_rows_called_rightly(columns):
    labels, logits, weights = columns
    right = [w for y, z, w in zip(*columns, strict=True) if (sigmoid(z) >= 0.5) == y]
    # A logit of 1e-20 has a probability of exactly 0.5; both mean the same call.
    expected = math.fsum(right) / weights.sum()
    near_half = np.abs(logits) < 1e-12
    if not (near_half & (logits < 0)).any():
        found = accuracy(labels, logits, weights)
        assert found == pytest.approx(expected, abs=1e-12)


def test_a_probability_of_one_half_is_called_a_click():
    assert accuracy(np.array([1, 0]), np.zeros(2)) == 0.5
    assert accuracy(np.array([1, 1]), np.zeros(2)) == 1.0


@pytest.mark.parametrize("metric", [calibration, ece, accuracy])
def test_nan_logits_and_no_rows_are_undefined(metric):
    with pytest.raises(UndefinedMetricError, match="1 of 1 scores are NaN"):
        metric(np.array([1]), np.array([np.nan]))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        metric(np.zeros(0), np.zeros(0))
