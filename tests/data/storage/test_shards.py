from __future__ import annotations

import dataclasses
import json
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from dlrm.config.errors import DatasetError
from dlrm.data.storage import side_file
from dlrm.data.storage.shards import ShardWriter
from tests.data.mixed import (
    BAG,
    MIXED,
    ONE_HOT,
    as_lists,
    rows_of,
    schema_of,
    side_of,
    write_dataset,
)

SCHEMA = schema_of(*MIXED)


def test_a_record_is_label_weight_dense_ids_and_bag_lengths_in_words(tmp_path):
    rows = rows_of(SCHEMA, 3)
    write_dataset(tmp_path / "set", SCHEMA, {"train": rows})
    shard = tmp_path / "set" / "train" / "shard_00000"
    words = np.fromfile(shard / "rows.bin", "<i4").reshape(3, -1)
    for i in range(3):
        expected = b"".join(
            part.tobytes()
            for part in (
                rows.labels[i],
                rows.weights[i],
                rows.dense[i],
                rows.one_hot[i],
                rows.bag_lengths[i],
            )
        )
        assert words[i].tobytes() == expected
    ends = np.cumsum(rows.bag_lengths.sum(1))
    assert np.fromfile(shard / "bag_starts.bin", "<i8").tolist() == [0, *ends]
    assert (shard / "bags.bin").read_bytes() == rows.bag_values.tobytes()
    assert (shard / "bag_weights.bin").read_bytes() == rows.bag_weights.tobytes()


def test_one_hot_rows_have_no_files_for_bags(tmp_path):
    schema = schema_of(ONE_HOT, ONE_HOT)
    write_dataset(tmp_path / "set", schema, {"train": rows_of(schema, 3)})
    shard = tmp_path / "set" / "train" / "shard_00000"
    assert [path.name for path in shard.iterdir()] == ["rows.bin"]


@pytest.mark.parametrize("num_rows", [0, 1, 4, 5, 6, 10, 13])
def test_shards_fill_up_whatever_the_writes_sizes(tmp_path, num_rows):
    rows = rows_of(SCHEMA, num_rows)
    dataset = write_dataset(tmp_path / "set", SCHEMA, {"train": rows}, shard=5)
    manifest = json.loads((tmp_path / "set" / "files.json").read_text())
    sizes = [min(5, num_rows - start) for start in range(0, num_rows, 5)] or [0]
    assert manifest["splits"] == {"train": sizes}
    for index, size in enumerate(sizes):
        part = tmp_path / "set" / "train" / "side" / f"part_{index:05d}.parquet"
        assert pq.read_metadata(part).num_rows == size
    assert as_lists(dataset.split("train").slice(0, num_rows)) == as_lists(rows)


def test_one_large_write_is_cut_at_shard_borders(tmp_path):
    rows = rows_of(SCHEMA, 12)
    (tmp_path / "set").mkdir()
    with ShardWriter(tmp_path / "set", SCHEMA, rows_per_shard=5) as writer:
        writer.write("train", rows, side_of(rows))
        nothing = rows_of(SCHEMA, 0)
        writer.write("train", nothing, side_of(nothing))
    manifest = json.loads((tmp_path / "set" / "files.json").read_text())
    assert manifest["splits"] == {"train": [5, 5, 2]}


def test_every_file_is_listed_with_its_size_and_crc32(tmp_path):
    folder = tmp_path / "set"
    rows = rows_of(SCHEMA, 12)
    write_dataset(folder, SCHEMA, {"train": rows, "test": rows})
    listed = json.loads((folder / "files.json").read_text())["files"]
    found = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "crc32": zlib.crc32(path.read_bytes()),
        }
        for path in folder.rglob("*")
        if path.is_file() and path.name != "files.json"
    }
    assert listed == found
    assert "schema.json" in listed


def test_side_rows_are_written_in_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(side_file, "SIDE_ROWS_PER_GROUP", 6)
    rows = rows_of(SCHEMA, 15)
    write_dataset(tmp_path / "set", SCHEMA, {"train": rows}, shard=100)
    part = tmp_path / "set" / "train" / "side" / "part_00000.parquet"
    assert pq.read_metadata(part).num_row_groups == 3
    assert pq.read_table(part)["__row"].to_pylist() == list(range(15))


@pytest.mark.parametrize("name", ["one_hot", "bag_lengths", "bag_values"])
def test_ids_wider_than_32_bits_are_refused(tmp_path, name):
    rows = rows_of(SCHEMA, 2)
    wide = {name: getattr(rows, name).astype(np.int64)}
    with pytest.raises(ValueError, match=f"{name} must be int32 .* but it is int64"):
        ShardWriter(tmp_path, SCHEMA).write(
            "train", dataclasses.replace(rows, **wide), side_of(rows)
        )


def test_rows_of_another_schema_are_refused(tmp_path):
    rows = rows_of(schema_of(BAG), 2)
    with pytest.raises(ValueError, match=r"one_hot must be int32 \[2, 1\]"):
        ShardWriter(tmp_path, schema_of(BAG, ONE_HOT)).write(
            "train", rows, side_of(rows)
        )
    ones = np.ones(rows.bag_values.size, np.float32)
    weighted = dataclasses.replace(rows, bag_weights=ones)
    with pytest.raises(ValueError, match="bag_weights must be None"):
        ShardWriter(tmp_path / "b", schema_of(BAG)).write(
            "train", weighted, side_of(rows)
        )


def test_side_columns_must_be_aligned_with_the_rows(tmp_path):
    rows = rows_of(SCHEMA, 2)
    with pytest.raises(ValueError, match="side must have 2 rows, but it has 1"):
        ShardWriter(tmp_path, SCHEMA).write("train", rows, side_of(rows).slice(1))


def test_a_full_disk_is_one_clear_message(tmp_path):
    rows = rows_of(SCHEMA, 2)
    with pytest.raises(DatasetError, match=r"Free space or rights there, or set data"):
        ShardWriter(tmp_path / "missing" / "set", SCHEMA).close()
    (tmp_path / "train").write_text("a file where a folder must be")
    with pytest.raises(DatasetError, match=r"it refused: .*train"):
        ShardWriter(tmp_path, SCHEMA).write("train", rows, side_of(rows))


def test_an_error_leaves_no_manifest_behind(tmp_path):
    rows = rows_of(SCHEMA, 2)

    def write_and_fail():
        with ShardWriter(tmp_path, SCHEMA) as writer:
            writer.write("train", rows, side_of(rows))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert not (tmp_path / "files.json").exists()
