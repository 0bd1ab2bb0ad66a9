from __future__ import annotations

import numpy as np

from dlrm.data.contract.array_bytes import from_bytes, to_bytes


def test_arrays_come_back_with_name_type_and_every_bit():
    arrays = {
        "0/limit": np.array([2**64 - 1], dtype=np.uint64),
        "flags": np.array([True, False, True]),
        "none": np.zeros(0, dtype=np.float32),
        "größe": np.array([0.1, np.nan, -0.0, np.inf]),
        "ids": np.arange(5, dtype=np.int32),
    }
    found = from_bytes(to_bytes(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


def test_numbers_lie_where_they_are_read_fast():
    odd = {"a": np.ones(3, dtype=bool), "b": np.ones(2), "c": np.ones(1)}
    assert all(array.flags.aligned for array in from_bytes(to_bytes(odd)).values())
