import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.lift import gain_curve, top_capture, top_lift
from dlrm.metrics.ranking import auc
from dlrm.metrics.undefined import UndefinedMetricError
from tests.metrics.by_hand import captured


@st.composite
def scored_rows(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.one_of(st.floats(-5, 5), st.sampled_from([-1.0, 0.0, 1.0])),
                st.sampled_from([0.25, 1.0, 4.0]),
            ),
            max_size=40,
        )
    )
    columns = zip(*[*rows, (1, 1.0, 1.0), (0, -1.0, 2.0)], strict=True)
    return tuple(np.array(column) for column in columns)


@settings(max_examples=80, deadline=None)
@given(scored_rows(), st.floats(0.01, 1), st.randoms(use_true_random=False))
def test_capture_is_the_loop_in_any_order_and_lies_on_the_curve(rows, share, random):
    expected = captured(*rows, share)
    order = random.sample(range(len(rows[0])), len(rows[0]))
    shuffled = [column[order] for column in rows]
    assert top_capture(*shuffled, share=share) == pytest.approx(expected, abs=1e-12)
    found = top_lift(*shuffled, share=share)
    assert found == pytest.approx(expected / share, rel=1e-12)
    curve = gain_curve(*shuffled)
    assert curve.capture(share) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(scored_rows())
def test_the_area_under_the_gain_curve_is_that_of_auc(rows):
    """Shown = rate * captured + (1 - rate) * others shown, so the areas are tied."""
    labels, _, weights = rows
    curve = gain_curve(*rows)
    rate = float(np.sum(labels * weights) / weights.sum())
    steps = np.diff(curve.shown) * (curve.captured[1:] + curve.captured[:-1]) / 2
    expected = rate / 2 + (1 - rate) * auc(*rows)
    assert steps.sum() == pytest.approx(expected, abs=1e-12)


def test_lift_is_the_rate_among_those_shown_over_that_of_all():
    labels = np.array([1, 1, 0, 1, 0, 0, 0, 0])
    curve = gain_curve(labels, np.arange(8)[::-1] / 8)
    lift = curve.lift()
    np.testing.assert_allclose(lift.shown, np.arange(1, 9) / 8)
    rates = np.cumsum(labels) / np.arange(1, 9)
    np.testing.assert_allclose(lift.lift, rates / (3 / 8))


def test_a_constant_model_captures_what_it_shows():
    labels = np.arange(30) % 3 == 0
    assert top_capture(labels, np.zeros(30)) == pytest.approx(0.1, abs=1e-15)
    assert top_lift(labels, np.zeros(30), share=0.5) == pytest.approx(1, abs=1e-15)


def test_the_best_order_captures_all_or_as_much_as_there_is_room_for():
    labels = np.arange(100) < 5
    assert top_capture(labels, -np.arange(100)) == 1
    labels = np.arange(100) < 40
    assert top_capture(labels, -np.arange(100)) == pytest.approx(0.25, abs=1e-15)


@pytest.mark.parametrize("metric", [top_capture, top_lift, gain_curve])
def test_one_class_no_rows_and_nan_are_undefined(metric):
    for label in (0, 1):
        with pytest.raises(UndefinedMetricError, match="one class"):
            metric(np.full(3, label), np.zeros(3))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        metric(np.zeros(0), np.zeros(0))
    with pytest.raises(UndefinedMetricError, match="1 of 2 scores are NaN"):
        metric(np.array([0, 1]), np.array([np.nan, 1]))


def test_a_share_of_nothing_is_refused():
    rows = np.array([0, 1]), np.zeros(2)
    with pytest.raises(ValueError, match=r"must be in \(0, 1\], but is 0"):
        top_capture(*rows, share=0)
    with pytest.raises(ValueError, match=r"must be in \(0, 1\], but is 2"):
        gain_curve(*rows).capture(2)
