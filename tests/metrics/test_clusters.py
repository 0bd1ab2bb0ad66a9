"""Groups become whole numbers, and rows without one are groups of their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlrm.metrics.clusters import cluster_codes, num_distinct, number_values

KINDS = st.sampled_from(["int8", "int64", "uint8", "uint64", "float64", "U2"])


@given(values=KINDS.flatmap(lambda kind: hnp.arrays(kind, st.integers(0, 30))))
def test_values_are_numbered_in_their_order(values: np.ndarray):
    values = values[values == values]
    found, places = number_values(values)
    expected, inverse = np.unique(values, return_inverse=True)
    assert found.dtype == values.dtype
    assert found.tolist() == expected.tolist()
    assert places.tolist() == inverse.tolist()


@pytest.mark.parametrize(
    "values",
    [
        np.array([-128, 127], dtype=np.int8).repeat(100),
        np.array([2**64 - 1, 2**64 - 3], dtype=np.uint64),
        np.array([-(2**63), -(2**63) + 2], dtype=np.int64),
        np.array([-(2**63), 2**63 - 1], dtype=np.int64),
    ],
)
def test_values_at_the_ends_of_their_type_are_numbered(values: np.ndarray):
    found, places = number_values(values)
    assert found.tolist() == sorted(set(values.tolist()))
    assert (found[places] == values).all()


def test_rows_without_a_group_are_clusters_of_their_own():
    groups = np.ma.array(["b", "a", "x", "b", "x"], mask=[0, 0, 1, 0, 1])
    assert cluster_codes(groups, 5).tolist() == [1, 0, 2, 1, 3]


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"\(5,\) as the labels, but .* \(4,\)"):
        cluster_codes(np.arange(4), 5)


def test_distinct_numbers_are_counted():
    assert num_distinct(np.array([3, 0, 3, 7])) == 3
    assert num_distinct(np.zeros(0, dtype=np.int64)) == 0
