from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dlrm.data.storage.rows import concatenate_rows, rechunk_rows
from tests.data.mixed import MIXED, ONE_HOT, as_lists, rows_of, schema_of

SCHEMA = schema_of(*MIXED)


def test_pieces_are_the_rows_between_the_bounds():
    rows = rows_of(SCHEMA, 7)
    pieces = list(rows.pieces([1, 3, 3, 6]))
    expected = as_lists(rows)
    assert [as_lists(piece) for piece in pieces] == [expected[1:3], [], expected[3:6]]


def test_concatenated_pieces_are_the_rows_again():
    for schema in (SCHEMA, schema_of(ONE_HOT)):
        rows = rows_of(schema, 7)
        joined = concatenate_rows(list(rows.pieces([0, 2, 7])))
        assert as_lists(joined) == as_lists(rows)
        assert (joined.bag_weights is None) == (rows.bag_weights is None)


@given(
    sizes=st.lists(st.integers(0, 9), max_size=6),
    size=st.integers(1, 7),
)
def test_rechunked_rows_keep_their_order_in_full_chunks(sizes, size):
    bounds = np.cumsum([0, *sizes]).tolist()
    rows = rows_of(SCHEMA, bounds[-1])
    chunks = list(rechunk_rows(rows.pieces(bounds), size))
    assert [row for chunk in chunks for row in as_lists(chunk)] == as_lists(rows)
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= size for chunk in chunks[-1:])
