import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from dlrm.metrics.brier_parts import brier_parts, brier_parts_of_table
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.one_of(st.floats(-30, 30), st.sampled_from([-np.inf, 0.0, np.inf])),
            st.floats(0.01, 10),
        ),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 25),
)
def test_the_parts_sum_to_the_brier_score_whatever_the_bins(rows, num_bins):
    labels, logits, weights = (np.array(column) for column in zip(*rows, strict=True))
    table = tabulate_scores(check_rows(labels, logits, weights))
    parts = brier_parts_of_table(table, num_bins=num_bins)
    expected = brier_score_loss(
        labels,
        probabilities_from_logits(logits),
        sample_weight=weights,
        pos_label=1,
    )
    assert parts.total == pytest.approx(expected, abs=1e-12)
    assert min(parts.reliability, parts.resolution, parts.within_bin_variance) >= 0


def test_equal_probabilities_in_a_bin_leave_murphys_three_parts():
    # Two levels of ten rows each: rates 0.2 and 0.7 where 0.25 and 0.75 were promised.
    logits = np.repeat([-np.log(3), np.log(3)], 10)
    labels = np.array([1] * 2 + [0] * 8 + [1] * 7 + [0] * 3)
    parts = brier_parts(labels, logits)
    assert parts.reliability == pytest.approx(0.05**2, abs=1e-15)
    assert parts.resolution == pytest.approx(0.25**2, abs=1e-15)
    assert parts.uncertainty == pytest.approx(0.45 * 0.55, abs=1e-15)
    assert parts.within_bin == pytest.approx(0, abs=1e-15)


def test_one_bin_hides_in_its_own_terms_what_more_bins_show_as_resolution():
    random = np.random.default_rng(0)
    logits = random.normal(size=4000)
    labels = random.random(4000) < probabilities_from_logits(logits)
    table = tabulate_scores(check_rows(labels, logits, None))
    one = brier_parts_of_table(table, num_bins=1)
    many = brier_parts_of_table(table, num_bins=50)
    assert one.resolution == pytest.approx(0, abs=1e-20)
    assert one.within_bin < -0.03
    assert many.resolution > 0.03
    assert abs(many.within_bin) < 1e-3
    assert one.total == pytest.approx(many.total, abs=1e-12)


def test_nan_logits_and_no_rows_have_no_parts():
    with pytest.raises(UndefinedMetricError, match="1 of 1 scores are NaN"):
        brier_parts(np.array([1]), np.array([np.nan]))
    with pytest.raises(UndefinedMetricError, match="no rows"):
        brier_parts(np.zeros(0), np.zeros(0))
