from __future__ import annotations

import dataclasses
import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.config.errors import DatasetError
from dlrm.config.schema import SplitSummary
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.split_rows import LONG_BAGS, gather_ragged
from tests.data.mixed import BAG, MIXED, ONE_HOT, as_lists, rows_of, schema_of
from tests.data.mixed import write_dataset as write

SCHEMA = schema_of(*MIXED)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    rows = rows_of(SCHEMA, 23)
    folder = tmp_path_factory.mktemp("stored") / "set"
    return write(folder, SCHEMA, {"train": rows, "empty": rows_of(SCHEMA, 0)}), rows


@settings(deadline=None)
@given(numbers=st.lists(st.integers(0, 22), max_size=30))
def test_gathered_rows_come_in_the_order_asked_for(stored, numbers):
    dataset, rows = stored
    split = dataset.split("train")
    expected = [as_lists(rows)[number] for number in numbers]
    asked = np.array(numbers, dtype=np.int64)
    assert as_lists(split.gather(asked)) == expected
    scratch = split.new_scratch(30)
    assert as_lists(split.gather(asked, scratch=scratch)) == expected


@pytest.mark.parametrize("kinds", [(ONE_HOT, ONE_HOT), (BAG,), (ONE_HOT, BAG), ()])
@pytest.mark.parametrize("shard", [4, 100])
@pytest.mark.parametrize("longest", [2, 3 * LONG_BAGS])
def test_every_kind_of_schema_survives_the_disk(tmp_path, kinds, shard, longest):
    schema = schema_of(*kinds)
    rows = rows_of(schema, 11, longest=longest)
    split = write(tmp_path / "set", schema, {"train": rows}, shard=shard).split("train")
    order = np.random.default_rng(1).permutation(11)
    assert as_lists(split.gather(order)) == [as_lists(rows)[i] for i in order]
    assert as_lists(split.slice(0, 11)) == as_lists(rows)


def test_a_slice_is_the_rows_from_start_to_stop(stored):
    dataset, rows = stored
    split = dataset.split("train")
    for start in range(24):
        for stop in range(start, 24):
            assert as_lists(split.slice(start, stop)) == as_lists(rows)[start:stop]


def test_rows_outside_the_split_are_refused(stored):
    split = stored[0].split("train")
    with pytest.raises(IndexError, match=r"\[0, 23\), but they are in \[-1, 3\]"):
        split.gather(np.array([3, -1]))
    with pytest.raises(IndexError, match=r"\[0, 23\), but they are in \[0, 23\]"):
        split.gather(np.array([0, 23]))
    with pytest.raises(IndexError, match=r"\[0, 23\], but it is \[20, 24\)"):
        split.slice(20, 24)


def test_a_split_without_rows_opens(stored):
    dataset, _ = stored
    split = dataset.split("empty")
    assert split.num_rows == 0
    assert len(split.gather(np.zeros(0, dtype=np.int64))) == 0
    assert len(split.slice(0, 0)) == 0
    assert dataset.side("empty").column_names == ["__file", "__row", "user"]
    assert dataset.splits == ("train", "empty")


def test_an_unknown_split_is_refused(stored):
    with pytest.raises(DatasetError, match=r"\['train', 'empty'\], but it is 'test'"):
        stored[0].split("test")


def test_threads_may_gather_at_once(stored):
    dataset, rows = stored
    split, expected, wrong = dataset.split("train"), as_lists(rows), []

    def check(seed):
        order = np.random.default_rng(seed).permutation(23)
        if as_lists(split.gather(order)) != [expected[i] for i in order]:
            wrong.append(seed)

    threads = [threading.Thread(target=check, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_side_columns_are_row_aligned(stored):
    dataset, _ = stored
    assert dataset.side("train")["__row"].to_pylist() == list(range(23))
    assert dataset.side("train")["__file"].to_pylist() == ["a.csv"] * 23
    users = dataset.side("train", ["user"])
    assert users.to_pydict() == {"user": [f"u{i}" for i in range(23)]}
    batches = list(dataset.side_batches("train", ["__row"], batch_size=4))
    assert [n for batch in batches for n in batch["__row"].to_pylist()] == list(
        range(23)
    )
    assert max(batch.num_rows for batch in batches) <= 4


def test_a_side_column_that_was_not_kept_is_refused(stored):
    with pytest.raises(DatasetError, match=r"'user'\], but it is 'age'\. Add it to"):
        stored[0].side("train", ["user", "age"])


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "set", SCHEMA, {"train": rows_of(SCHEMA, 8)})
    return tmp_path / "set"


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"must be a folder, but .*nowhere"):
        Dataset.open(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"must hold files\.json"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "schema.json",
        "train/shard_00001/rows.bin",
        "train/shard_00000/bag_starts.bin",
        "train/side/part_00000.parquet",
    ],
)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DatasetError, match=f"{name}, but the file is missing"):
        Dataset.open(folder, verify=False)


def test_a_short_file_is_named(folder):
    path = folder / "train" / "shard_00001" / "rows.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(
        DatasetError, match=f"{path} must be {len(whole)} bytes, .* {len(whole) - 1}"
    ):
        Dataset.open(folder, verify=False)


def test_a_flipped_bit_is_found_in_every_file(folder):
    names = json.loads((folder / "files.json").read_text())["files"]
    assert len(names) > 8
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(DatasetError, match=f"{name} must have CRC-32"):
            Dataset.open(folder)
        path.write_bytes(whole)
    assert Dataset.open(folder).split("train").num_rows == 8


def test_who_reads_one_split_has_all_but_the_rows_of_others_checked(tmp_path):
    folder = tmp_path / "set"
    write(folder, SCHEMA, {"train": rows_of(SCHEMA, 8), "test": rows_of(SCHEMA, 4)})
    for name in json.loads((folder / "files.json").read_text())["files"]:
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        if name.startswith("train/shard_"):
            assert Dataset.open(folder, split="test").split("test").num_rows == 4
        else:
            with pytest.raises(DatasetError, match=f"{name} must have CRC-32"):
                Dataset.open(folder, split="test")
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"format_version": 1}', "KeyError: 'files'"),
        ('{"format_version": 7}', "must have format_version 1, but it has 7"),
    ],
)
def test_a_damaged_manifest_is_named(folder, text, message):
    (folder / "files.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        Dataset.open(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "train/../../x", ""])
def test_paths_that_leave_the_folder_are_refused(folder, name):
    manifest = json.loads((folder / "files.json").read_text())
    entry = {"size": 0, "crc32": 0}
    for changed in (
        {"files": {**manifest["files"], name: entry}},
        {"splits": {name: [1]}},
    ):
        (folder / "files.json").write_text(json.dumps({**manifest, **changed}))
        with pytest.raises(DatasetError, match="lies outside the dataset"):
            Dataset.open(folder)


def test_shards_that_contradict_the_schema_are_refused(tmp_path):
    summary = SplitSummary(num_rows=9, num_positives=1.0, total_weight=9.0)
    schema = dataclasses.replace(SCHEMA, splits={"train": summary})
    with pytest.raises(DatasetError, match="must have 9 rows, but its shards hold 8"):
        write(tmp_path / "set", schema, {"train": rows_of(schema, 8)})


def test_records_of_another_schema_are_refused(folder):
    dataset = Dataset.open(folder)
    dataset.schema = schema_of(*MIXED, num_dense=4)
    with pytest.raises(DatasetError, match=r"rows\.bin must hold"):
        dataset.split("train")


@given(
    pairs=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=9),
    scale=st.sampled_from([1, 4]),
)
def test_a_ragged_gather_is_the_joined_slices(pairs, scale):
    values = np.arange(100 * scale, dtype=np.int32)
    starts = np.array([start for start, _ in pairs], dtype=np.int64)
    lengths = np.array([length * scale for _, length in pairs], dtype=np.int64)
    expected = [
        value
        for start, length in zip(starts, lengths, strict=True)
        for value in range(start, start + length)
    ]
    assert gather_ragged(values, starts, lengths).tolist() == expected


@given(
    rows=st.lists(st.integers(0, 13), max_size=9),
    length=st.integers(1, 7),
    first=st.integers(0, 1),
)
def test_a_ragged_gather_of_equal_lengths_is_the_joined_slices(rows, length, first):
    values = np.arange(100, dtype=np.int32)
    starts = np.array(rows, dtype=np.int64) * length + first
    expected = [value for start in starts for value in range(start, start + length)]
    lengths = np.full(len(rows), length, dtype=np.int64)
    assert gather_ragged(values, starts, lengths).tolist() == expected
