"""A batch that is there already, made longer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrec.sparse.jagged_tensor import JaggedTensor

from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from tests.data.mixed import MIXED, bags_of_batch, rows_of, schema_of

SCHEMA = schema_of(*MIXED)


def assert_same(found: Batch, expected: Batch) -> None:
    for name in ("dense", "labels", "weights", "row_ids"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype
        assert torch.equal(a, b), name
    assert list(found.sparse) == list(expected.sparse)
    for group, bags in expected.sparse.items():
        own = found.sparse[group]
        assert bags_of_batch(own) == bags_of_batch(bags)
        assert own.stride() == bags.stride()
        assert own.lengths().dtype == bags.lengths().dtype
        assert own.offsets().tolist() == bags.offsets().tolist()
        assert own.length_per_key() == bags.length_per_key()
        assert own.offset_per_key() == bags.offset_per_key()


@settings(deadline=None)
@given(num_rows=st.integers(0, 6), padding=st.integers(0, 4))
def test_padding_a_batch_is_collating_it_with_padding(num_rows: int, padding: int):
    rows, ids = rows_of(SCHEMA, num_rows), np.arange(num_rows)
    size = num_rows + padding
    found = collate(rows, ids, SCHEMA).padded(size)
    assert_same(found, collate(rows, ids, SCHEMA, batch_size=size))


def test_padding_rows_have_no_classes():
    batch = collate(rows_of(SCHEMA, 2), np.arange(2), SCHEMA)
    classes = JaggedTensor(
        values=torch.tensor([4, 5, 6], dtype=torch.int32),
        lengths=torch.tensor([1, 2], dtype=torch.int32),
    )
    padded = dataclasses.replace(batch, classes=classes).padded(4)
    assert padded.classes is not None
    assert padded.classes.lengths().tolist() == [1, 2, 0, 0]
    assert padded.classes.values().tolist() == [4, 5, 6]


def test_a_batch_is_never_cut():
    batch = collate(rows_of(SCHEMA, 3), np.arange(3), SCHEMA)
    assert batch.padded(3) is batch
    with pytest.raises(ValueError, match="size must be >= 3 rows, but it is 2"):
        batch.padded(2)
