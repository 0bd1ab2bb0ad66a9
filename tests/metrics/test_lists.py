import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.lists import hit_rate_at_k, mean_reciprocal_first_click, ndcg_at_k
from dlrm.metrics.undefined import UndefinedMetricError
from tests.metrics.by_hand import list_metrics


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([-1.0, 0.0, 0.5, 2.0])),
        min_size=0,
        max_size=4,
    ),
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([-1.0, 0.0])),
        min_size=0,
        max_size=4,
    ),
    st.integers(1, 7),
    st.sampled_from([None, (0.5, 3.0)]),
    st.randoms(use_true_random=False),
)
def test_each_is_the_mean_over_all_orders_of_ties(first, second, k, weights, random):
    lists = [[*first, (1, 0.0), (0, 0.0)], [*second, (0, -1.0), (1, 0.0)]]
    rows = [(label, z, g) for g, part in enumerate(lists) for label, z in part]
    random.shuffle(rows)
    labels, scores, groups = (np.array(column) for column in zip(*rows, strict=True))
    row_weights = None if weights is None else np.array(weights)[groups]
    expected = np.average(
        [
            list_metrics(*(np.array(c) for c in zip(*part, strict=True)), k)
            for part in lists
        ],
        axis=0,
        weights=weights,
    )
    found = (
        ndcg_at_k(labels, scores, groups, row_weights, k=k),
        mean_reciprocal_first_click(labels, scores, groups, row_weights),
        hit_rate_at_k(labels, scores, groups, row_weights, k=k),
    )
    assert found == pytest.approx(tuple(expected), abs=1e-12)


def test_a_list_without_ties_by_hand():
    labels, scores = np.array([0, 1, 0, 1]), np.array([4.0, 3.0, 2.0, 1.0])
    groups = np.zeros(4, dtype=int)
    places = 1 / np.log2([3, 5])
    best = 1 / np.log2([2, 3])
    found = ndcg_at_k(labels, scores, groups, k=4)
    assert found == pytest.approx(places.sum() / best.sum(), abs=1e-15)
    assert ndcg_at_k(labels, scores, groups, k=1) == 0
    assert mean_reciprocal_first_click(labels, scores, groups) == 0.5
    assert hit_rate_at_k(labels, scores, groups, k=1) == 0
    assert hit_rate_at_k(labels, scores, groups, k=2) == 1


def test_groups_of_one_class_and_rows_without_a_group_have_no_say():
    labels = np.array([0, 1, 1, 1, 0, 0, 1])
    scores = np.array([2.0, 1.0, 0.0, 0.0, 5.0, 5.0, 9.0])
    groups = np.ma.array([1, 1, 2, 2, 3, 3, 1], mask=[0, 0, 0, 0, 0, 0, 1])
    assert mean_reciprocal_first_click(labels, scores, groups) == 0.5
    assert hit_rate_at_k(labels, scores, groups, k=1) == 0


def test_rows_of_weight_zero_hold_no_place():
    labels, scores = np.array([0, 1, 0]), np.array([3.0, 2.0, 1.0])
    weights, groups = np.array([0.0, 1.0, 1.0]), np.zeros(3, dtype=int)
    assert mean_reciprocal_first_click(labels, scores, groups, weights) == 1


def test_one_score_for_a_long_list_is_a_draw_of_lots():
    """A click at place i of n by lot: the mean of 1 / i is the harmonic number / n."""
    labels = np.arange(100_000) == 17
    scores, groups = np.zeros(100_000), np.zeros(100_000, dtype=int)
    harmonic = np.sum(1 / np.arange(1, 100_001))
    found = mean_reciprocal_first_click(labels, scores, groups)
    assert found == pytest.approx(harmonic / 100_000, rel=1e-10)
    found = hit_rate_at_k(labels, scores, groups)
    assert found == pytest.approx(1e-4, rel=1e-10)


@pytest.mark.parametrize(
    "metric", [ndcg_at_k, mean_reciprocal_first_click, hit_rate_at_k]
)
def test_no_group_of_both_classes_no_rows_and_nan_are_undefined(metric):
    groups = np.array([1, 2])
    with pytest.raises(UndefinedMetricError, match="no group with both classes"):
        metric(np.array([0, 1]), np.zeros(2), groups)
    with pytest.raises(UndefinedMetricError, match="no group with both classes"):
        metric(np.array([0, 1]), np.zeros(2), np.ma.array(groups, mask=True))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        metric(np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(UndefinedMetricError, match="1 of 2 scores are NaN"):
        metric(np.array([0, 1]), np.array([0, np.nan]), groups)


def test_k_below_one_is_refused():
    rows = np.array([0, 1]), np.zeros(2), np.zeros(2)
    for metric in (ndcg_at_k, hit_rate_at_k):
        with pytest.raises(ValueError, match="at least 1, but is 0"):
            metric(*rows, k=0)
