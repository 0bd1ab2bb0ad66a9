from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import dlrm.data.preparation.splits as splits_module
from dlrm.config.data import Split
from dlrm.config.errors import DataError
from dlrm.data.preparation.splits import (
    TEST,
    TRAIN,
    VALID,
    deal_rows,
    leave_last_split,
    random_split,
    shuffle_2019_split,
    time_split,
)
from tests.data.raw import config, typed


@dataclass
class Rows:
    """A block of rows in memory."""

    table: pa.Table
    split: str | None = None

    @property
    def num_rows(self):
        return self.table.num_rows

    def names(self):
        return self.table.column_names

    def column(self, name):
        return self.table[name].combine_chunks()


def deal(data, *parts, sources=None):
    blocks = []
    for part, source in zip(parts, sources or [None] * len(parts), strict=True):
        size = len(next(iter(part.values())))
        blocks.append(Rows(typed(data, {"label": [0] * size, **part}), source))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.bin"
        sizes = deal_rows(data, blocks, path)
        codes = np.fromfile(path, np.int8)
    assert sizes.tolist() == np.bincount(codes, minlength=3).tolist()
    return codes


def test_shuffle_2019_is_pythons_own_shuffle_cut_8_1_1():
    for size in (1, 7, 10, 23):
        state = random.Random(2019)
        rows = list(range(size))
        state.shuffle(rows)
        codes = shuffle_2019_split(size)
        first, second = size * 8 // 10, size * 8 // 10 + size // 10
        assert np.flatnonzero(codes == TRAIN).tolist() == sorted(rows[:first])
        assert np.flatnonzero(codes == VALID).tolist() == sorted(rows[first:second])
        assert np.flatnonzero(codes == TEST).tolist() == sorted(rows[second:])


def test_shuffle_2019_leaves_the_global_generator_alone():
    random.seed(5)
    before = random.getstate()
    shuffle_2019_split(10)
    assert random.getstate() == before


def test_a_random_split_has_its_fractions():
    codes = random_split(100_000, [0.7, 0.2, 0.1], seed=0)
    shares = np.bincount(codes) / codes.size
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.01)


def test_a_random_split_does_not_depend_on_how_rows_are_chunked():
    whole = random_split(100, [0.8, 0.1, 0.1], seed=3)
    parts = [
        random_split(30, [0.8, 0.1, 0.1], seed=3),
        random_split(70, [0.8, 0.1, 0.1], seed=3, first_row=30),
    ]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_another_seed_deals_other_rows():
    a, b = (random_split(1000, [0.5, 0.25, 0.25], seed=s) for s in (0, 1))
    # Independent draws agree in 0.5**2 + 2 * 0.25**2 = 37.5 % of the rows.
    assert 0.3 < np.mean(a == b) < 0.45


def test_a_split_without_share_gets_no_row():
    assert set(random_split(10_000, [0.9, 0.1, 0.0], 0)) == {TRAIN, VALID}
    assert set(random_split(10_000, [0.9, 0.0, 0.1], 0)) == {TRAIN, TEST}
    assert set(random_split(10_000, [1.0, 0.0, 0.0], 0)) == {TRAIN}


def test_a_time_split_trains_on_the_oldest_and_tests_on_the_newest_rows():
    times = np.array([5.0, 1, 9, 3, 7, 2, 8, 4, 6, 0])
    codes = time_split(times, [0.6, 0.2, 0.2])
    assert sorted(times[codes == TRAIN]) == [0, 1, 2, 3, 4, 5]
    assert sorted(times[codes == VALID]) == [6, 7]
    assert sorted(times[codes == TEST]) == [8, 9]


def test_rows_of_one_moment_are_never_on_both_sides_of_a_cut():
    times = np.array([0.0, 1, 2, 2, 2, 2, 3, 4, 5, 6])
    codes = time_split(times, [0.4, 0.3, 0.3])
    assert times[codes == TRAIN].max() == 2
    assert times[codes == VALID].tolist() == [3]
    assert times[codes == TEST].tolist() == [4, 5, 6]


def leave_last_by_definition(groups, times, n):
    codes = [TRAIN] * len(groups)
    for group in set(groups):
        rows = [i for i, g in enumerate(groups) if g == group]
        rows.sort(key=lambda i: (times[i], i))
        for place, row in enumerate(reversed(rows)):
            codes[row] = TEST if place < n else VALID if place < 2 * n else TRAIN
    return codes


@pytest.mark.parametrize("n", [1, 2])
def test_leave_last_tests_on_each_groups_newest_rows(n):
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 6, 60).astype(np.uint64)
    times = generator.integers(0, 9, 60).astype(float)
    expected = leave_last_by_definition(groups.tolist(), times.tolist(), n)
    assert leave_last_split(groups, times, n).tolist() == expected
    in_file_order = leave_last_by_definition(groups.tolist(), [0] * 60, n)
    assert leave_last_split(groups, None, n).tolist() == in_file_order


def test_a_split_without_rows_names_the_setting_that_sizes_it():
    data = config(split=Split.leave_last, group_column="user", leave_last=9)
    with pytest.raises(DataError, match=r"change data\.split or data\.leave_last"):
        deal(data, {"user": ["a", "b"]})


def test_leave_last_goes_by_group_and_time_columns_over_chunks():
    data = config(split=Split.leave_last, group_column="user", time_column="t")
    codes = deal(
        data,
        {"user": ["a", "b", "a", "b"], "t": [9, 1, 1, 2]},
        {"user": ["a", "b"], "t": [5, 3]},
    )
    assert codes.tolist() == [TEST, TRAIN, TRAIN, VALID, VALID, TEST]


def test_groups_dealt_part_by_part_are_dealt_as_all_at_once(monkeypatch):
    generator = np.random.default_rng(0)
    users, times = generator.integers(0, 40, 300), generator.integers(0, 9, 300)
    data = config(split=Split.leave_last, group_column="user", time_column="t")
    parts = [
        {"user": users[i : i + 70].tolist(), "t": times[i : i + 70].tolist()}
        for i in range(0, 300, 70)
    ]
    monkeypatch.setattr(splits_module, "_ROWS_AT_ONCE", 50)
    expected = leave_last_by_definition(users.tolist(), times.tolist(), 1)
    assert deal(data, *parts).tolist() == expected


def test_integer_and_float_group_ids_are_the_same_group():
    data = config(split=Split.leave_last, group_column="user")
    codes = deal(data, {"user": [7, 8, 7]}, {"user": [7.0, 8.0, 8.0]})
    assert codes.tolist() == [TRAIN, TRAIN, VALID, TEST, VALID, TEST]


@pytest.mark.parametrize("split", [Split.time, Split.leave_last])
def test_missing_times_refuse_the_split_by_name_and_count(split):
    data = config(split=split, time_column="ts", group_column="user")
    with pytest.raises(DataError, match=r"'ts'.*in 2 of 4 rows") as caught:
        deal(data, {"user": ["a"] * 4, "ts": [1, None, None, 4]})
    assert f"data.split={split.value}" in str(caught.value)


def test_source_and_files_splits_are_what_the_source_says():
    for split in (Split.source, Split.files):
        data = config(split=split, files={"train": ["a"]})
        parts = [{"x": [1]}, {"x": [1, 2]}]
        assert deal(data, *parts, sources=["test", "train"]).tolist() == [2, 0, 0]


def test_a_source_that_says_nothing_is_refused():
    with pytest.raises(DataError, match="data.split=source needs a source"):
        deal(config(split=Split.source), {"x": [1]})


def test_a_split_column_is_followed():
    data = config(split=Split.column, split_column="part")
    codes = deal(data, {"part": ["valid", "train"]}, {"part": ["test"]})
    assert codes.tolist() == [VALID, TRAIN, TEST]


def test_an_empty_training_split_is_refused():
    data = config(split=Split.column, split_column="part")
    with pytest.raises(DataError, match="The train split must have at least one row"):
        deal(data, {"part": ["valid", "test"]})


def test_an_empty_split_with_a_share_is_refused_with_all_counts():
    data = config(split=Split.time, time_column="t")
    with pytest.raises(DataError, match=r"The valid split.*'train': 3") as caught:
        deal(data, {"t": [1, 1, 1]})
    assert "data.split_fractions" in str(caught.value)


def test_no_rows_at_all_are_refused():
    data = config(source="clicks.csv")
    with pytest.raises(DataError, match=r"at least one sound row.*clicks\.csv"):
        deal(data)
