import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from dlrm.metrics.thresholds import (
    Confusion,
    accuracy,
    confusion_at_quota,
    confusion_at_threshold,
)
from dlrm.metrics.undefined import UndefinedMetricError


@st.composite
def scored_rows(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.sampled_from([-3.0, -1.0, -0.0, 0.0, 0.5, 2.0, 40.0]),
                st.sampled_from([0.0, 0.5, 1.0, 3.0]),
            ),
            max_size=40,
        )
    )
    columns = zip(*[*rows, (1, 0.5, 1.0), (0, -1.0, 1.0)], strict=True)
    return tuple(np.array(column) for column in columns)


@settings(max_examples=80, deadline=None)
@given(scored_rows(), st.sampled_from([0.0, 0.02, 0.3, 0.5, 0.6, 0.9, 1.0]))
def test_calls_at_a_threshold_are_scikit_learns(rows, threshold):
    labels, logits, weights = rows
    # As logits: the probability of 40 is 1 - 4e-18, not 1.
    least = -np.inf if threshold == 0 else np.inf
    if 0 < threshold < 1:
        least = math.log(threshold / (1 - threshold))
    calls = logits >= least
    found = confusion_at_threshold(labels, logits, weights, threshold=threshold)
    for metric, expected in (
        (found.precision, precision_score),
        (found.recall, recall_score),
        (found.f1, f1_score),
        (found.accuracy, accuracy_score),
    ):
        if expected is precision_score and not (calls & (weights > 0)).any():
            with pytest.raises(UndefinedMetricError, match="no row is called a click"):
                metric()
            continue
        value = expected(labels, calls, sample_weight=weights)
        assert metric() == pytest.approx(value, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(scored_rows(), st.floats(0, 1))
def test_a_quota_calls_its_share_and_splits_the_tie_at_the_cut(rows, quota):
    labels, scores, weights = rows
    room = quota * weights.sum()
    called = np.zeros(len(labels))
    for score in sorted(set(scores.tolist()), reverse=True):
        tie = scores == score
        mass = weights[tie].sum()
        if mass > 0:
            called[tie] = min(1.0, max(room, 0.0) / mass)
            room -= mass
    found = confusion_at_quota(labels, scores, weights, quota=quota)
    part, clicks = called * weights, labels == 1
    expected = (
        part[clicks].sum(),
        part[~clicks].sum(),
        ((1 - called) * weights)[clicks].sum(),
        ((1 - called) * weights)[~clicks].sum(),
    )
    total = found.called + found.false_negatives + found.true_negatives
    scale = weights.sum() / total  # equal weights count as 1
    for value, wanted in zip(
        (
            found.true_positives,
            found.false_positives,
            found.false_negatives,
            found.true_negatives,
        ),
        expected,
        strict=True,
    ):
        assert value * scale == pytest.approx(wanted, abs=1e-9)


def test_a_quota_of_rows_without_ties_is_scikit_learns_on_the_highest():
    random = np.random.default_rng(0)
    scores, labels = random.permutation(50) / 10, random.integers(0, 2, 50)
    calls = scores >= np.sort(scores)[-15]
    found = confusion_at_quota(labels, scores, quota=0.3)
    assert found.called == 15
    expected = precision_score(labels, calls)
    assert found.precision() == pytest.approx(expected, abs=1e-12)
    assert found.recall() == pytest.approx(recall_score(labels, calls), abs=1e-12)
    assert found.f1() == pytest.approx(f1_score(labels, calls), abs=1e-12)


def test_a_constant_model_calls_both_classes_alike_under_a_quota():
    found = confusion_at_quota(np.array([1, 0, 0, 0]), np.zeros(4), quota=0.25)
    assert found == Confusion(0.25, 0.75, 0.75, 2.25)
    assert found.precision() == found.recall() == 0.25


def test_without_clicks_recall_and_f1_have_no_value_and_precision_is_zero():
    found = confusion_at_threshold(np.zeros(3), np.ones(3))
    for metric in (found.recall, found.f1):
        with pytest.raises(UndefinedMetricError, match="no clicks"):
            metric()
    assert found.precision() == found.accuracy() == 0


def test_f1_is_zero_where_no_row_is_called_a_click():
    assert confusion_at_threshold(np.array([1, 0]), -np.ones(2)).f1() == 0


def test_confusions_of_parts_add_up():
    labels, logits = np.array([1, 0, 1, 0, 1]), np.array([2.0, 1.0, -1.0, -2.0, 0.0])
    parts = [
        confusion_at_threshold(labels[s:e], logits[s:e]) for s, e in [(0, 2), (2, 5)]
    ]
    assert parts[0] + parts[1] == confusion_at_threshold(labels, logits)


def test_thresholds_and_quotas_outside_zero_to_one_are_refused():
    rows = np.array([0, 1]), np.zeros(2)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], but is 1.5"):
        confusion_at_threshold(*rows, threshold=1.5)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], a share, but is -0.1"):
        confusion_at_quota(*rows, quota=-0.1)


def test_no_rows_and_nan_have_no_accuracy():
    with pytest.raises(UndefinedMetricError, match="no rows"):
        accuracy(np.zeros(0), np.zeros(0))
    with pytest.raises(UndefinedMetricError, match="1 of 1 scores are NaN"):
        confusion_at_quota(np.array([1]), np.array([np.nan]), quota=0.5)
    with pytest.raises(UndefinedMetricError, match="no rows"):
        Confusion(0, 0, 0, 0).accuracy()
