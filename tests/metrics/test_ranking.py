import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from dlrm.metrics import blocks
from dlrm.metrics.ranking import auc, pr_auc, roc_curve
from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError

FLOATS = {
    # Few values, so that most rows are tied; both zeros, infinities, subnormals.
    "tied": st.sampled_from([-2.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 0.5000001, 40.0]),
    "wild": st.floats(width=32, allow_nan=False),
    "plain": st.floats(-50, 50, width=32),
    # Float64 that float32 does not have, and magnitudes too far apart for 62 bits.
    "double": st.floats(allow_nan=False),
    "close": st.integers(-9, 9).map(lambda step: 0.1 + step * 2.0**-55),
    "far": st.sampled_from([-1e300, -5e-324, -0.0, 0.0, 2e-310, 0.1, 3.0, np.inf]),
}


def pairwise_auc(labels, scores, weights):
    """The definition: every pair of a click and a non-click, a tie one half."""
    won = total = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            weight = weights[i] * weights[j]
            total += weight
            won += weight * (
                float(scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
            )
    return won / total


@st.composite
def scored_rows(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                FLOATS[draw(st.sampled_from(list(FLOATS)))],
                # 0.1 is no float32.
                st.sampled_from([0.0, 0.5, 1.0, 3.0, 0.1]),
            ),
            max_size=30,
        )
    )
    both = [(0, 1.0, 1.0), (1, -1.0, 1.0)]
    labels, scores, weights = zip(*draw(st.permutations(rows + both)), strict=True)
    return np.array(labels), np.array(scores), np.array(weights)


@settings(max_examples=300, deadline=None)
@given(scored_rows(), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_auc_is_the_share_of_pairs_in_order_on_every_path(rows, dtype, weighted):
    labels, scores, weights = rows
    with np.errstate(over="ignore"):
        scores = scores.astype(dtype)
    given_weights = weights if weighted else None
    counted = weights if weighted else np.ones(len(labels))
    expected = pairwise_auc(labels, scores, counted)
    assert auc(labels, scores, given_weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("click_rate", [0.001, 0.05, 0.5, 0.99])
def test_auc_equals_scikit_learn(dtype, decimals, click_rate):
    random = np.random.default_rng(int(1000 * click_rate))
    labels = (random.random(20_000) < click_rate).astype(np.float32)
    scores = np.round(random.normal(size=20_000) + labels, decimals).astype(dtype)
    weights = random.exponential(size=20_000)
    expected = roc_auc_score(labels, scores)
    assert auc(labels, scores) == pytest.approx(expected, abs=1e-12)
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert auc(labels, scores, weights) == pytest.approx(expected, abs=1e-11)


def test_auc_of_a_constant_model_is_one_half_in_any_row_order():
    scores = np.full(4, 0.5, dtype=np.float32)
    assert auc(np.array([1, 1, 0, 0]), scores) == 0.5
    assert auc(np.array([0, 0, 1, 1]), scores) == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [0, 1, 20])
@pytest.mark.parametrize("weights", [None, np.float32, np.float64])
def test_sorting_in_two_threads_and_many_blocks_changes_nothing(
    monkeypatch, dtype, decimals, weights
):
    random = np.random.default_rng(2)
    labels = random.random(5000) < 0.3
    scores = np.round(random.normal(size=5000), decimals).astype(dtype)
    scores[:5] = [np.inf, -np.inf, np.inf, 0.0, -0.0]
    if weights is not None:
        weights = random.exponential(size=5000).astype(weights)
    # scikit-learn refuses infinities; two far values keep their order.
    finite = np.clip(scores, -1e9, 1e9)
    expected = roc_auc_score(labels, finite, sample_weight=weights)
    monkeypatch.setattr(blocks, "_PARALLEL_ROWS", 2)
    monkeypatch.setattr(blocks, "ROWS_PER_BLOCK", 7)
    assert auc(labels, scores, weights) == pytest.approx(expected, abs=1e-12)
    table = tabulate_scores(check_rows(labels, scores, weights))
    np.testing.assert_array_equal(table.scores, np.unique(scores))
    of_rows = np.ones(5000) if weights is None else weights.astype(np.float64)
    places = np.searchsorted(table.scores, scores)
    clicks = np.bincount(places, of_rows * labels, minlength=len(table.scores))
    others = np.bincount(places, of_rows * ~labels, minlength=len(table.scores))
    np.testing.assert_allclose(table.positives, clicks, rtol=1e-12)
    np.testing.assert_allclose(table.negatives, others, rtol=1e-12)


def test_both_zeros_are_a_tie():
    zeros = np.array([-0.0, 0.0], dtype=np.float32)
    assert auc(np.array([0, 1]), zeros) == 0.5
    assert auc(np.array([1, 0]), zeros) == 0.5


def test_a_strided_column_scores_as_its_copy():
    table = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    labels = np.arange(50) % 3 == 0
    assert auc(labels, table[:, 1]) == auc(labels, table[:, 1].copy())


def test_equal_weights_leave_auc_to_the_bit():
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 2, 100), random.normal(size=100)
    assert auc(labels, scores, np.full(100, 0.3)) == auc(labels, scores)


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [2, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auc_of_millions_equals_scikit_learn(dtype, decimals):
    random = np.random.default_rng(6)
    labels = random.random(2_000_000) < 0.05
    scores = np.round(random.normal(size=2_000_000) + labels, decimals).astype(dtype)
    expected = roc_auc_score(labels, scores)
    assert auc(labels, scores) == pytest.approx(expected, abs=1e-12)
    weights = random.exponential(size=2_000_000)
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert auc(labels, scores, weights) == pytest.approx(expected, abs=1e-11)


@settings(max_examples=100, deadline=None)
@given(scored_rows(), st.booleans())
def test_average_precision_equals_scikit_learn_and_ignores_row_order(rows, weighted):
    labels, scores, weights = rows
    # scikit-learn refuses infinities here; two far values keep their order.
    scores = np.clip(scores, -1e39, 1e39)
    given_weights = weights if weighted else None
    expected = average_precision_score(labels, scores, sample_weight=given_weights)
    assert pr_auc(labels, scores, given_weights) == pytest.approx(expected, abs=1e-12)
    back = None if given_weights is None else given_weights[::-1]
    turned = pr_auc(labels[::-1], scores[::-1], back)
    assert turned == pytest.approx(expected, abs=1e-12)


def test_average_precision_of_a_constant_model_is_the_click_rate():
    assert pr_auc(np.array([1, 0, 0, 0]), np.zeros(4)) == 0.25


@settings(max_examples=100, deadline=None)
@given(scored_rows())
def test_roc_points_equal_scikit_learn_and_enclose_the_auc(rows):
    labels, scores, weights = rows
    scores = np.clip(scores, -1e39, 1e39)
    curve = roc_curve(labels, scores, weights)
    counted = weights > 0
    expected_x, expected_y, thresholds = sklearn_roc_curve(
        labels[counted],
        scores[counted],
        sample_weight=weights[counted],
        drop_intermediate=False,
    )
    np.testing.assert_allclose(curve.false_positive_rate, expected_x, atol=1e-12)
    np.testing.assert_allclose(curve.true_positive_rate, expected_y, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(auc(labels, scores, weights), abs=1e-12)


@pytest.mark.parametrize("metric", [auc, pr_auc, roc_curve])
def test_ranking_of_one_class_is_undefined(metric):
    for label in (0, 1):
        with pytest.raises(UndefinedMetricError, match="one class"):
            metric(np.full(3, label), np.arange(3.0))
    with pytest.raises(UndefinedMetricError, match="one class"):
        metric(np.array([0, 1]), np.arange(2.0), np.array([1.0, 0.0]))


@pytest.mark.parametrize("metric", [auc, pr_auc, roc_curve])
def test_ranking_of_nan_or_of_nothing_is_undefined(metric):
    with pytest.raises(UndefinedMetricError, match="1 of 2 scores are NaN"):
        metric(np.array([0, 1]), np.array([np.nan, 1.0], dtype=np.float32))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        metric(np.zeros(0), np.zeros(0))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        metric(np.array([0, 1]), np.arange(2.0), np.zeros(2))


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([0, 1, 2], [1, 2, 3], None, "row 2 has 2"),
        ([0, np.nan], [1, 2], None, "row 1 has nan"),
        ([0, 1], [1, 2, 3], None, r"\(2,\) as the labels, but their shape is \(3,\)"),
        ([0, 1], [1, 2], [1, -3], "row 1 has -3"),
        ([0, 1], [1, 2], [np.inf, 1], "row 0 has inf"),
        ([[0], [1]], [[1], [2]], None, r"shape is \(2, 1\)"),
    ],
)
def test_rows_that_do_not_fit_are_refused(labels, scores, weights, message):
    with pytest.raises(ValueError, match=message):
        auc(
            np.array(labels),
            np.array(scores),
            None if weights is None else np.array(weights),
        )
