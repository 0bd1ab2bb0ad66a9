"""The exact AUC lies within the stated error of the approximate one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dlrm.metrics.approximate_auc import AucHistogram, approximate_auc
from dlrm.metrics.undefined import UndefinedMetricError


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.one_of(
                st.floats(-1e300, 1e300),
                st.floats(0.5, 0.51),
                st.sampled_from([-0.0, 0.0, 1e-40, -1e-40, 1e300, 0.501]),
            ),
            st.sampled_from([0.0, 0.5, 3.0]),
        ),
        max_size=40,
    ),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_the_exact_auc_is_within_the_stated_error(rows, dtype, weighted):
    rows = [*rows, (0, 0.5, 1.0), (1, 0.505, 1.0)]
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    if dtype == np.float32:
        scores = np.clip(scores, -3e38, 3e38)
    scores = scores.astype(dtype)
    chosen = weights if weighted else None
    found = approximate_auc(labels, scores, chosen)
    exact = roc_auc_score(labels, scores, sample_weight=chosen)
    assert abs(found.value - exact) <= found.max_error


def test_the_bound_is_half_the_share_of_pairs_within_bins():
    # 1.0 and 1.001 share a bin, 2.0 has its own: one pair of two is within a bin, and
    # the click in it is counted as a half win instead of a whole one.
    found = approximate_auc(np.array([0, 1, 0]), np.array([1.0, 1.001, 2.0]))
    assert found.value == pytest.approx(0.25)
    assert found.max_error == pytest.approx(0.25)


def test_logits_of_a_model_have_a_bound_below_one_thousandth():
    random = np.random.default_rng(0)
    labels = random.random(200_000) < 0.03
    logits = (random.normal(size=200_000) + labels - 3.5).astype(np.float32)
    exact = roc_auc_score(labels, logits)
    coarse = approximate_auc(labels, logits)
    assert abs(coarse.value - exact) <= coarse.max_error < 2e-3
    state = AucHistogram(num_bits=20)
    state.update(labels, logits)
    fine = state.compute()
    assert abs(fine.value - exact) <= fine.max_error < 2e-4


def test_histograms_of_parts_add_up():
    random = np.random.default_rng(1)
    labels, scores = random.random(1000) < 0.3, random.normal(size=1000)
    weights = np.repeat([0.5, 2.0], 500)
    whole = AucHistogram()
    for part in (slice(0, 500), slice(500, 1000)):
        state = AucHistogram()
        state.update(labels[part], scores[part], weights[part])
        whole.merge(state)
    expected = approximate_auc(labels, scores, weights)
    assert whole.compute().value == pytest.approx(expected.value, abs=1e-12)


def test_what_has_no_auc_is_refused():
    with pytest.raises(UndefinedMetricError, match="no rows"):
        AucHistogram().compute()
    with pytest.raises(UndefinedMetricError, match="one class"):
        approximate_auc(np.ones(3), np.arange(3.0))
    with pytest.raises(UndefinedMetricError, match="1 of 2 scores are NaN"):
        approximate_auc(np.array([0, 1]), np.array([np.nan, 1.0]))
    with pytest.raises(ValueError, match=r"9 .* to 24 .* is 32"):
        AucHistogram(num_bits=32)
    with pytest.raises(ValueError, match="one has 16 and the other 20"):
        AucHistogram().merge(AucHistogram(num_bits=20))
