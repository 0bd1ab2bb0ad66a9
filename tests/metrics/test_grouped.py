import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dlrm.metrics.grouped import gauc
from dlrm.metrics.undefined import UndefinedMetricError


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([-3.0, -1.0, -0.0, 0.0, 0.25, 3.0]),
            st.sampled_from(["ann", "bob", "cy", "dee"]),
            st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
    st.sampled_from(["text", "small numbers", "any numbers"]),
    st.sampled_from([np.float32, np.float64]),
)
def test_grouped_auc_is_the_impression_weighted_mean_of_groups_aucs(
    rows, weighted, kind, dtype
):
    labels, scores, groups, weights = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    scores = scores.astype(dtype)
    if kind != "text":
        factor = 3 if kind == "small numbers" else -(10**12)
        groups = np.unique(groups, return_inverse=True)[1] * factor
    counted = weights if weighted else np.ones(len(labels))
    if not counted.any():
        return
    values, sizes, clicks, num_left_out, num_rows_left_out = [], [], [], 0, 0
    for group in np.unique(groups[counted > 0]):
        chosen = (groups == group) & (counted > 0)
        if labels[chosen].min() == labels[chosen].max():
            num_left_out += 1
            num_rows_left_out += int(chosen.sum())
            continue
        values.append(
            roc_auc_score(labels[chosen], scores[chosen], sample_weight=counted[chosen])
        )
        sizes.append(counted[chosen].sum())
        clicks.append((counted * labels)[chosen].sum())
    found = gauc(labels, scores, groups, weights if weighted else None)
    assert found.num_groups == len(values)
    assert found.num_groups_left_out == num_left_out
    assert found.num_rows_left_out == num_rows_left_out
    if values:
        expected = np.average(values, weights=sizes)
        assert found.value == pytest.approx(expected, abs=1e-12)
        by_clicks = gauc(
            labels, scores, groups, weights if weighted else None, by="clicks"
        )
        expected = np.average(values, weights=clicks)
        assert by_clicks.value == pytest.approx(expected, abs=1e-12)
        assert by_clicks.num_groups_left_out == num_left_out
    else:
        assert found.value is None


def test_a_model_that_only_knows_who_clicks_has_a_grouped_auc_of_one_half():
    groups = np.repeat([7, -3], 4)
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 1])
    scores = np.repeat([2.0, -2.0], 4)
    assert gauc(labels, scores, groups).value == 0.5


def test_masked_rows_have_no_group_and_are_counted_as_left_out():
    groups = np.ma.array([1, 1, 2, 9], mask=[False, False, False, True])
    found = gauc(np.array([0, 1, 1, 0]), np.arange(4.0), groups)
    assert (found.value, found.num_groups, found.num_groups_left_out) == (1.0, 1, 1)
    assert found.num_rows_left_out == 2


def test_no_row_with_a_group_has_no_value():
    groups = np.ma.array([1, 2], mask=True)
    found = gauc(np.array([0, 1]), np.arange(2.0), groups)
    assert (found.value, found.num_groups, found.num_rows_left_out) == (None, 0, 2)


def test_nan_scores_and_misfit_groups_are_refused():
    with pytest.raises(UndefinedMetricError, match="1 of 2 scores are NaN"):
        gauc(np.array([0, 1]), np.array([np.nan, 0]), np.array([1, 1]))
    with pytest.raises(ValueError, match=r"shape is \(3,\)"):
        gauc(np.array([0, 1]), np.zeros(2), np.zeros(3))
