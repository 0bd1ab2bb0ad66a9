"""Synthetic multi-hot bags for Criteo's one-hot ids, after MLPerf's DLRM-DCNv2."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BAG_SIZES = (
    3,
    2,
    1,
    2,
    6,
    1,
    1,
    1,
    1,
    7,
    3,
    8,
    1,
    6,
    9,
    5,
    1,
    1,
    1,
    12,
    100,
    27,
    10,
    3,
    1,
    1,
)
"""Ids in each bag of C1 to C26."""


def to_bags(ids: pa.ChunkedArray, *, size: int, seed: int) -> pa.Array:
    """Return bags of ``size`` ids: the row's own first, then ``size - 1`` drawn ones.

    The reference draws, once for each row of a table, ``size - 1`` other rows of it,
    uniformly, and looks a one-hot id's companions up in that list: an id has the same
    companions wherever it comes. Here companion k of id ``x`` is the text ``x#seed.k``.
    Under ``encoding=hash`` its row is as good as drawn uniformly and always the same,
    with no list to store. A missing id is the empty text and has companions, too.
    """
    own = pc.fill_null(ids.combine_chunks(), "")
    drawn = [
        pc.binary_join_element_wise(own, f"{seed}.{number}", "#")
        for number in range(1, size)
    ]
    values = pa.concat_arrays([_plain(array) for array in (own, *drawn)])
    # Value v of row r stands at v * num_rows + r; bags want it at r * size + v.
    num_rows = len(own)
    order = np.arange(size * num_rows).reshape(size, num_rows).T.reshape(-1)
    offsets = np.arange(0, size * num_rows + 1, size, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.take(pa.array(order)))


def _plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
