from __future__ import annotations

import numpy as np
import pytest

from dlrm.config.data import SPLITS
from dlrm.data.preparation.shard_plan import Part, ShardPlan, places_of, plan_shards
from dlrm.data.storage.records_file import RecordsFile

SIZES = [[3, 0, 1], [0, 0, 0], [5, 2, 0]]
"""Rows of train, valid and test in each of three blocks."""


def test_a_splits_rows_fill_shard_after_shard():
    assert plan_shards(SIZES, rows_per_shard=4) == [
        ShardPlan("train", 0, (Part(0, 0, 3), Part(2, 0, 1))),
        ShardPlan("train", 1, (Part(2, 1, 5),)),
        ShardPlan("valid", 0, (Part(2, 0, 2),)),
        ShardPlan("test", 0, (Part(0, 0, 1),)),
    ]


def test_a_blocks_places_are_its_parts_of_all_shards(tmp_path):
    plans = plan_shards(SIZES, rows_per_shard=4)
    first, second, third = places_of(plans, 3, tmp_path, num_words=2)
    assert second == []
    found = [(place.file.shard, place.first_row) for place in third]
    assert found == [
        (tmp_path / "train" / "shard_00000", 3),
        (tmp_path / "train" / "shard_00001", 0),
        (tmp_path / "valid" / "shard_00000", 0),
    ]
    assert [place.split for place in first] == ["train", "test"]


@pytest.mark.parametrize("rows_per_shard", [1, 3, 7, 1000])
def test_blocks_written_in_any_order_make_each_splits_rows(tmp_path, rows_per_shard):
    generator = np.random.default_rng(rows_per_shard)
    blocks = [generator.integers(0, 3, size).astype(np.int8) for size in (9, 1, 0, 30)]
    sizes = [np.bincount(codes, minlength=3).tolist() for codes in blocks]
    plans = plan_shards(sizes, rows_per_shard=rows_per_shard)
    places = places_of(plans, len(blocks), tmp_path, num_words=2)
    numbers = np.arange(40, dtype=np.int32)
    starts = np.cumsum([0, *(codes.size for codes in blocks)])
    for plan in plans:
        RecordsFile(plan.shard(tmp_path), num_words=2).make(plan.num_rows)
    for block in (3, 0, 1):
        own = numbers[starts[block] : starts[block + 1]]
        columns = np.stack([own, -own])
        for place in places[block]:
            rows = np.flatnonzero(blocks[block] == SPLITS.index(place.split))
            assert place.holds(place.write(columns, rows))
    codes = np.concatenate(blocks)
    for code, split in enumerate(SPLITS):
        shards = [plan.shard(tmp_path) for plan in plans if plan.split == split]
        words = [np.fromfile(shard / "rows.bin", np.int32) for shard in shards]
        expected = numbers[codes == code]
        assert np.concatenate(words)[::2].tolist() == expected.tolist()
        assert np.concatenate(words)[1::2].tolist() == (-expected).tolist()
