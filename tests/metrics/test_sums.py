import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import tabulate_scores
from dlrm.metrics.sums import ClickSums, add_sums, sum_rows, sum_table
from dlrm.metrics.undefined import UndefinedMetricError
from tests.metrics.by_hand import loss_of_one_row, sigmoid

ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(st.floats(-900, 900, width=32), st.sampled_from([-2.0, 0.0, 18.0])),
        st.sampled_from([0.25, 1.0, 7.0]),
    ),
    min_size=2,
    max_size=50,
)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(0, 50))
def test_sums_of_rows_of_tables_and_of_any_two_parts_are_the_loops(rows, cut):
    labels, logits, weights = (np.array(column) for column in zip(*rows, strict=True))
    weights[:2] = 1.0, 2.0  # two weights, so that they are not all taken as 1
    misses = [sigmoid(-z if y else z) for y, z in zip(labels, logits, strict=True)]
    expected = ClickSums(
        weight=math.fsum(weights),
        clicks=math.fsum(labels * weights),
        promised=math.fsum(
            sigmoid(z) * w for z, w in zip(logits, weights, strict=True)
        ),
        loss=math.fsum(
            loss_of_one_row(y, z) * w
            for y, z, w in zip(labels, logits, weights, strict=True)
        ),
        squared_error=math.fsum(np.square(misses) * weights),
    )
    whole = check_rows(labels, logits, weights)
    halves = [
        sum_rows(type(whole)(*(c[part] for c in (whole.labels, logits, weights))))
        for part in (slice(0, cut), slice(cut, None))
    ]
    for found in (
        sum_rows(whole),
        sum_table(tabulate_scores(whole)),
        halves[0] + halves[1],
    ):
        for name in ClickSums.__dataclass_fields__:
            value, wanted = getattr(found, name), getattr(expected, name)
            assert value == pytest.approx(wanted, rel=1e-12, abs=1e-300), name


def test_no_rows_have_sums_and_no_metrics():
    nothing = add_sums([])
    assert nothing == ClickSums(0, 0, 0, 0, 0)
    for name in ("log_loss", "normalized_entropy", "brier", "calibration"):
        with pytest.raises(UndefinedMetricError, match="no rows"):
            getattr(nothing, name)()
