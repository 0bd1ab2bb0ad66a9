from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.data.loading.collate import Collator, encoded_batches
from dlrm.data.loading.whole_batches import WholeBatches
from dlrm.data.storage.layout import RecordLayout
from dlrm.data.storage.split_rows import MappedShard, SplitRows
from tests.data.mixed import (
    MIXED,
    ONE_HOT,
    as_lists,
    bags_of_batch,
    bags_of_row,
    rows_of,
    schema_of,
)


def in_memory(rows, schema):
    shard = MappedShard(
        records=RecordLayout.of(schema).pack(rows),
        bag_starts=rows.value_starts(),
        bag_values=rows.bag_values,
        bag_weights=rows.bag_weights,
    )
    return SplitRows(RecordLayout.of(schema), [shard])


def dealt(rows, schema, *, batch_size, world_size, of):
    """Return the batches of every rank."""
    found = []
    for rank in range(world_size):
        whole = WholeBatches(
            schema, batch_size=batch_size, rank=rank, world_size=world_size
        )
        if of == "rows":
            found.append(list(whole.of_rows(rows)))
        else:
            split = in_memory(rows, schema)
            found.append(list(whole.of_split(split, prefetch_batches=0)))
    return found


@settings(deadline=None, max_examples=80)
@given(
    num_rows=st.integers(0, 40),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 5),
    of=st.sampled_from(["split", "rows"]),
)
def test_the_ranks_batches_are_those_of_one_process_dealt_out(
    num_rows, batch_size, world_size, of
):
    schema = schema_of(ONE_HOT)
    rows = rows_of(schema, num_rows)
    ranks = dealt(rows, schema, batch_size=batch_size, world_size=world_size, of=of)
    alone = [
        batch.row_ids.tolist() for batch in encoded_batches([rows], schema, batch_size)
    ]
    found = []
    for step in zip(*ranks, strict=True):
        assert len({len(batch) for batch in step}) == 1
        for batch in step:
            ids = batch.row_ids.tolist()
            padding = batch.row_ids < 0
            # No matrix product has another number of rows than in one process.
            assert bool(padding.all()) or not bool(padding.any())
            assert not bool((batch.weights * padding).any())
            found += [] if -1 in ids else [ids]
    assert found == alone
    assert Counter(n for ids in found for n in ids) == Counter(range(num_rows))


@pytest.mark.parametrize("of", ["split", "rows"])
def test_a_row_id_comes_with_its_own_row(of):
    schema = schema_of(*MIXED)
    rows = rows_of(schema, 23)
    listed = as_lists(rows)
    for batches in dealt(rows, schema, batch_size=4, world_size=3, of=of):
        for batch in batches:
            numbers = batch.row_ids.tolist()
            for bags in batch.sparse.values():
                for key, found in bags_of_batch(bags).items():
                    assert found == [
                        bags_of_row(schema, listed[n])[key] if n >= 0 else []
                        for n in numbers
                    ]
            real = [n for n in numbers if n >= 0]
            assert batch.labels.tolist()[: len(real)] == real


def test_the_next_batches_are_made_ahead_and_equal():
    schema = schema_of(*MIXED)
    split = in_memory(rows_of(schema, 23), schema)
    whole = WholeBatches(schema, batch_size=4)
    ahead, asked = (
        [batch.row_ids.tolist() for batch in whole.of_split(split, prefetch_batches=n)]
        for n in (2, 0)
    )
    assert ahead == asked
    assert len(ahead) == 6


def test_a_rank_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), but it is 2"):
        WholeBatches(schema_of(ONE_HOT), batch_size=4, rank=2, world_size=2)


@pytest.mark.parametrize("num_rows", [0, 1, 5])
def test_padding_alone_is_a_batch_of_every_kind_of_feature(num_rows):
    schema = schema_of(*MIXED)
    batch = Collator(schema).padding(num_rows)
    assert len(batch) == num_rows
    assert batch.dense.shape == (num_rows, 3)
    assert batch.row_ids.tolist() == [-1] * num_rows
    assert batch.weights.tolist() == [0] * num_rows
    assert {g: bags.keys() for g, bags in batch.sparse.items()} == {
        g: [f.name for f in features] for g, features in schema.groups.items()
    }
    for group, bags in batch.sparse.items():
        assert bags.values().numel() == 0
        assert bags.lengths().numel() == num_rows * len(bags.keys())
        assert (bags.weights_or_none() is not None) == (group == "weighted")
    assert np.all(batch.dense.numpy() == 0)
