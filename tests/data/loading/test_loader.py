from __future__ import annotations

import threading
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
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
    write_dataset,
)

SCHEMA = schema_of(*MIXED)


def split_in_memory(num_rows, schema=SCHEMA):
    rows = rows_of(schema, num_rows)
    shard = MappedShard(
        records=RecordLayout.of(schema).pack(rows),
        bag_starts=rows.value_starts(),
        bag_values=rows.bag_values,
        bag_weights=rows.bag_weights,
    )
    return SplitRows(RecordLayout.of(schema), [shard])


def loader_of(split, *, schema=SCHEMA, shuffle=True, **options):
    order = RowOrder(split.num_rows, seed=4, shuffle=shuffle, max_rows_in_memory=10**6)
    return BatchLoader(split, schema, order=order, **options)


@settings(deadline=None, max_examples=60)
@given(
    num_rows=st.integers(0, 40),
    global_batch_size=st.integers(1, 12),
    world_size=st.integers(1, 5),
    shuffle=st.booleans(),
)
def test_no_row_is_lost_or_repeated_at_any_world_size(
    num_rows, global_batch_size, world_size, shuffle
):
    schema = schema_of(ONE_HOT)
    split = split_in_memory(num_rows, schema)
    seen, order = Counter(), RowOrder(num_rows, seed=4, shuffle=shuffle)
    slices = [
        [
            batch.row_ids.tolist()
            for batch in loader_of(
                split,
                schema=schema,
                shuffle=shuffle,
                global_batch_size=global_batch_size,
                rank=rank,
                world_size=world_size,
                prefetch_batches=0,
            ).batches(0)
        ]
        for rank in range(world_size)
    ]
    for step, parts in enumerate(zip(*slices, strict=True)):
        first = step * global_batch_size
        real = [[number for number in part if number >= 0] for part in parts]
        last = min(first + global_batch_size, num_rows)
        together = [number for part in real for number in part]
        assert together == order.rows(0, first, last).tolist()
        assert len({len(part) for part in parts}) == 1
        sizes = [len(part) for part in real]
        assert max(sizes) - min(sizes) <= 1
        assert len(parts[0]) == max(sizes)
        seen.update(together)
    assert seen == Counter(range(num_rows))
    assert all(len(part) == -(-num_rows // global_batch_size) for part in slices)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("prefetch_batches", [0, 2])
def test_a_row_id_comes_with_its_own_row(tmp_path, shuffle, prefetch_batches):
    rows = rows_of(SCHEMA, 23)
    split = write_dataset(tmp_path / "set", SCHEMA, {"train": rows}).split("train")
    loader = loader_of(
        split, shuffle=shuffle, global_batch_size=6, prefetch_batches=prefetch_batches
    )
    listed = as_lists(rows)
    for batch in list(loader.batches(1)):
        numbers = batch.row_ids.tolist()
        assert batch.labels.tolist() == [listed[n][0] for n in numbers]
        assert batch.weights.tolist() == [listed[n][1] for n in numbers]
        assert batch.dense.tolist() == [listed[n][2] for n in numbers]
        for bags in batch.sparse.values():
            for key, found in bags_of_batch(bags).items():
                expected = [bags_of_row(SCHEMA, listed[n])[key] for n in numbers]
                assert found == expected


@pytest.mark.parametrize("prefetch_batches", [0, 1, 3])
def test_an_epoch_can_start_at_any_batch(prefetch_batches):
    loader = loader_of(
        split_in_memory(23), global_batch_size=4, prefetch_batches=prefetch_batches
    )
    assert loader.steps_per_epoch == 6
    whole = [batch.row_ids.tolist() for batch in loader.batches(2)]
    assert [len(ids) for ids in whole] == [4, 4, 4, 4, 4, 3]
    for start in range(7):
        resumed = [batch.row_ids.tolist() for batch in loader.batches(2, start)]
        assert resumed == whole[start:]


def test_one_process_never_pads():
    loader = loader_of(split_in_memory(5), global_batch_size=4)
    assert [(batch.row_ids >= 0).all().item() for batch in loader.batches(0)] == [
        True,
        True,
    ]


def test_a_rank_without_rows_gets_padding_alone():
    loader = loader_of(split_in_memory(1), global_batch_size=8, rank=0, world_size=3)
    (batch,) = loader.batches(0)
    assert batch.row_ids.tolist() == [-1]
    assert batch.weights.tolist() == [0]
    assert all(bags.values().numel() == 0 for bags in batch.sparse.values())


def test_closing_the_iterator_stops_the_thread():
    before = threading.active_count()
    loader = loader_of(split_in_memory(40), global_batch_size=1, prefetch_batches=2)
    batches = loader.batches(0)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
    list(loader.batches(0))
    assert threading.active_count() == before


def test_the_worker_uses_one_thread_and_leaves_the_callers_alone():
    seen = []

    class Watched(SplitRows):
        def gather(self, rows, *, scratch=None):
            seen.append(torch.get_num_threads())
            return super().gather(rows, scratch=scratch)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        whole = split_in_memory(4)
        split = Watched(whole._layout, whole._shards)
        list(loader_of(split, global_batch_size=2).batches(0))
        assert torch.get_num_threads() == 3
        list(loader_of(split, global_batch_size=2, prefetch_batches=0).batches(0))
        assert seen == [1, 1, 3, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("prefetch_batches", [0, 2])
def test_an_error_while_loading_reaches_the_consumer(prefetch_batches):
    class BrokenAtThree(SplitRows):
        def gather(self, rows, *, scratch=None):
            if 3 in rows.tolist():
                raise OSError("the disk is gone")
            return super().gather(rows, scratch=scratch)

    before = threading.active_count()
    whole = split_in_memory(12)
    split = BrokenAtThree(whole._layout, whole._shards)
    loader = loader_of(split, global_batch_size=1, prefetch_batches=prefetch_batches)
    position = RowOrder(12, seed=4, shuffle=True).rows(0, 0, 12).tolist().index(3)
    batches = loader.batches(0)
    for _ in range(position):
        next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert threading.active_count() == before


def test_ranks_and_orders_that_do_not_fit_are_refused():
    split = split_in_memory(4)
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), but it is 2"):
        loader_of(split, global_batch_size=2, rank=2, world_size=2)
    with pytest.raises(ValueError, match="must be of 4 rows, but it is of 5"):
        BatchLoader(
            split,
            SCHEMA,
            order=RowOrder(5, seed=0, shuffle=False),
            global_batch_size=2,
        )
