from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.data.preparation.selection import value_of_rank

numbers = st.floats(allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(numbers, max_size=8), min_size=1, max_size=4), st.data())
def test_the_value_of_a_rank_is_the_one_that_sorting_gives(parts, data):
    ordered = sorted(value for part in parts for value in part)
    if not ordered:
        return
    rank = data.draw(st.integers(0, len(ordered) - 1))
    arrays = [np.array(part, dtype=np.float64) for part in parts]
    assert value_of_rank(arrays, rank) == ordered[rank]


def test_a_rank_beyond_the_values_is_refused():
    with pytest.raises(IndexError, match="rank 2"):
        value_of_rank([np.array([1.0, 2.0])], 2)
