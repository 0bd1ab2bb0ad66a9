from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.data.loading.collate import collate, encoded_batches
from tests.data.mixed import (
    BAG,
    MIXED,
    ONE_HOT,
    WEIGHTED_BAG,
    as_lists,
    bags_of_batch,
    bags_of_row,
    rows_of,
    schema_of,
)

KINDS = st.lists(st.sampled_from([ONE_HOT, BAG, WEIGHTED_BAG]), max_size=6)


@settings(deadline=None)
@given(kinds=KINDS, num_rows=st.integers(0, 6), padding=st.integers(0, 3))
def test_every_bag_arrives_under_its_key_and_padding_is_empty(kinds, num_rows, padding):
    schema = schema_of(*kinds)
    rows = rows_of(schema, num_rows)
    batch = collate(rows, np.arange(num_rows), schema, batch_size=num_rows + padding)
    expected = [bags_of_row(schema, row) for row in as_lists(rows)]
    assert {name: bags.keys() for name, bags in batch.sparse.items()} == {
        name: [f.name for f in features] for name, features in schema.groups.items()
    }
    for bags in batch.sparse.values():
        for key, found in bags_of_batch(bags).items():
            assert found == [row[key] for row in expected] + [[]] * padding


@given(num_rows=st.integers(0, 6), padding=st.integers(0, 3))
def test_padding_rows_weigh_nothing_and_have_no_id(num_rows, padding):
    schema = schema_of(ONE_HOT)
    rows = rows_of(schema, num_rows)
    ids = np.arange(num_rows) * 10
    batch = collate(rows, ids, schema, batch_size=num_rows + padding)
    assert len(batch) == num_rows + padding
    assert batch.labels.tolist() == rows.labels.tolist() + [0] * padding
    assert batch.weights.tolist() == rows.weights.tolist() + [0] * padding
    assert batch.row_ids.tolist() == ids.tolist() + [-1] * padding
    assert batch.dense.tolist() == rows.dense.tolist() + [[0.0] * 3] * padding


def test_types_and_groups():
    schema = schema_of(*MIXED)
    batch = collate(rows_of(schema, 5), np.arange(5), schema)
    assert list(batch.sparse) == ["pooled", "weighted"]
    for bags in batch.sparse.values():
        assert bags.values().dtype == torch.int32
        assert bags.lengths().dtype == torch.int32
        assert bags.offsets().dtype == torch.int32
    assert batch.sparse["pooled"].weights_or_none() is None
    assert batch.sparse["weighted"].weights().dtype == torch.float32
    for tensor in (batch.dense, batch.labels, batch.weights):
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous()
    assert batch.row_ids.dtype == torch.int64


@pytest.mark.parametrize("kinds", [MIXED, (ONE_HOT, ONE_HOT), (BAG,)])
def test_the_given_offsets_and_sums_are_those_torchrec_would_compute(kinds):
    schema = schema_of(*kinds)
    batch = collate(rows_of(schema, 5), np.arange(5), schema, batch_size=7)
    for bags in batch.sparse.values():
        plain = KeyedJaggedTensor(
            keys=bags.keys(), values=bags.values(), lengths=bags.lengths()
        )
        assert bags.offsets().tolist() == plain.offsets().tolist()
        assert bags.length_per_key() == plain.length_per_key()
        assert bags.offset_per_key() == plain.offset_per_key()
        assert bags.stride() == plain.stride() == 7


def test_a_batch_shares_no_memory_with_the_rows():
    schema = schema_of(*MIXED)
    rows = rows_of(schema, 4)
    batch = collate(rows, np.arange(4), schema)
    before = [bags_of_batch(bags) for bags in batch.sparse.values()]
    dense = batch.dense.tolist()
    for array in (rows.dense, rows.labels, rows.one_hot, rows.bag_values):
        array[...] = 77
    assert [bags_of_batch(bags) for bags in batch.sparse.values()] == before
    assert batch.dense.tolist() == dense


@pytest.mark.filterwarnings("error")
def test_rows_that_cannot_be_written_are_collated_in_silence():
    schema = schema_of(*MIXED)
    rows = rows_of(schema, 4)
    expected = collate(rows, np.arange(4), schema)
    for array in (rows.dense, rows.one_hot, rows.bag_values, rows.bag_weights):
        array.flags.writeable = False
    batch = collate(rows, np.arange(4), schema)
    for name, bags in batch.sparse.items():
        assert bags_of_batch(bags) == bags_of_batch(expected.sparse[name])


def test_a_stream_of_rows_becomes_batches_with_running_ids():
    schema = schema_of(*MIXED)
    rows = rows_of(schema, 11)
    batches = list(encoded_batches(rows.pieces([0, 1, 1, 8, 11]), schema, 4))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert torch.cat([batch.row_ids for batch in batches]).tolist() == list(range(11))
    listed = as_lists(rows)
    for batch in batches:
        found = bags_of_batch(batch.sparse["weighted"])
        for i, number in enumerate(batch.row_ids.tolist()):
            expected = bags_of_row(schema, listed[number])
            assert {key: bags[i] for key, bags in found.items()} == {
                key: expected[key] for key in found
            }
