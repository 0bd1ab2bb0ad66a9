"""What is wrong with a Parquet file is named: the file, the row, the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm.config.errors import DataError
from dlrm.data.sources.parquet import read_parquet


def read(path: Path) -> list[dict[str, object]]:
    return [row for chunk in read_parquet([path]) for row in chunk.table.to_pylist()]


def texts(data: bytes, *ends: int) -> pa.Array:
    """Return a string array over any bytes: Arrow does not look at them."""
    offsets = pa.py_buffer(np.array([0, *ends], np.int32))
    return pa.Array.from_buffers(
        pa.string(), len(ends), [None, offsets, pa.py_buffer(data)]
    )


@pytest.mark.parametrize("row", [1, 2, 3, 5])
def test_bytes_that_are_no_text_are_named_by_row_and_column(tmp_path: Path, row: int):
    data = bytearray(b"abcde")
    data[row - 1] = 0xFF
    path = tmp_path / "t.parquet"
    sound = pa.array(["é"] * 5)
    pq.write_table(pa.table({"s": sound, "t": texts(bytes(data), 1, 2, 3, 4, 5)}), path)
    with pytest.raises(
        DataError, match=rf"t\.parquet, row {row}: column 't' must hold"
    ):
        read(path)


def test_bytes_that_are_no_text_are_found_in_lists_and_dictionaries(tmp_path: Path):
    path = tmp_path / "t.parquet"
    odd = texts(b"a\xff", 1, 2)
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 2], pa.int32()), odd)
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), odd)
    for column in (lists, coded):
        pq.write_table(pa.table({"c": column}), path)
        with pytest.raises(DataError, match="column 'c' must hold UTF-8 text"):
            read(path)


def test_binary_columns_may_hold_any_bytes(tmp_path: Path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"b": pa.array([b"\xff"])}), path)
    assert read(path) == [{"b": b"\xff"}]


def test_a_column_name_that_comes_twice_is_refused(tmp_path: Path):
    path = tmp_path / "t.parquet"
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(twice, path)
    with pytest.raises(DataError, match="names differ, but it has 'a' more than once"):
        read(path)


def test_lists_of_dictionary_values_are_read_across_row_groups(tmp_path: Path):
    path = tmp_path / "t.parquet"
    kind = pa.list_(pa.dictionary(pa.int32(), pa.string()))
    rows = [["x", "y"], None, [], ["x", None]]
    pq.write_table(pa.table({"c": pa.array(rows, kind)}), path, row_group_size=1)
    assert [row["c"] for row in read(path)] == rows


def test_a_changed_page_is_found_by_its_checksum(tmp_path: Path):
    path = tmp_path / "t.parquet"
    numbers = pa.table({"a": pa.array(range(1_000), pa.int64())})
    pq.write_table(
        numbers,
        path,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    data = bytearray(path.read_bytes())
    data[data.index((500).to_bytes(8, "little"))] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="must be a whole Parquet file"):
        read(path)
