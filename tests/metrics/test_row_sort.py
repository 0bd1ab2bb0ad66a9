"""Keys and row numbers sorted as one number, and floats as whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.float_order import FloatOrder, RankOrder, in_float32, order_of
from dlrm.metrics.row_sort import sort_rows


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(2**61), 2**61 - 1), min_size=1, max_size=70),
    st.lists(st.integers(-3, 3), max_size=70),
)
def test_rows_come_in_the_order_of_their_keys(wide, close):
    # 62 bits and a row's number do not fit into 64: close keys share what is left.
    keys = np.array(wide + [wide[0] // 2 + step for step in close], dtype=np.int64)
    ordered, rows = sort_rows(keys.copy(), num_bits=62)
    np.testing.assert_array_equal(ordered, np.sort(keys))
    np.testing.assert_array_equal(keys[rows], ordered)
    assert sorted(rows) == list(range(len(keys)))


@pytest.mark.parametrize("width", [32, 64])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_codes_keep_order_and_ties_and_turn_back(width, data):
    floats = st.floats(width=width, allow_nan=False)
    values = data.draw(st.lists(floats, min_size=1, max_size=30))
    scores = np.array(values, dtype=f"f{width // 8}")
    order = order_of(scores)
    codes = order.encode(scores).astype(np.int64)
    for sign in (np.less, np.equal):
        np.testing.assert_array_equal(
            sign.outer(codes, codes), sign.outer(scores, scores)
        )
    np.testing.assert_array_equal(order.decode(codes), scores)
    assert order.num_bits <= 62
    assert np.abs(codes).max() < 2 ** (order.num_bits - 1)


def test_logits_leave_bits_free_and_far_magnitudes_take_ranks():
    logits = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    assert order_of(logits).num_bits <= 30
    far = order_of(np.array([1e-300, 1e300]))
    assert isinstance(far, RankOrder)
    assert isinstance(order_of(np.array([-np.inf, 0.1, np.inf])), FloatOrder)


def test_float64_is_narrowed_only_where_nothing_is_lost():
    assert in_float32(np.array([0.5, -np.inf, 3.0])).dtype == np.float32
    assert in_float32(np.array([0.5, 0.1])).dtype == np.float64
    assert in_float32(np.array([1e300])).dtype == np.float64
