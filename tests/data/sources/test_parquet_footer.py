"""A footer read by us says what Arrow says, and damage never ends the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm.data.sources.parquet_footer import read_row_groups


@pytest.fixture
def path(tmp_path: Path) -> Path:
    table = pa.table(
        {
            "a": pa.array([1, None, 3, 4, 5]),
            "b.c": pa.array(["x", "y", None, "", "z"]).dictionary_encode(),
            "bag": pa.array([[1, 2], [], None, [3], [4, 5, 6]]),
            "point": pa.array([{"x": 1, "y": True}] * 5),
        }
    )
    file = tmp_path / "t.parquet"
    pq.write_table(table, file, row_group_size=2)
    return file


def test_counts_are_arrows(path: Path):
    metadata = pq.read_metadata(path)
    groups = read_row_groups(path)
    assert len(groups) == metadata.num_row_groups == 3
    for place, group in enumerate(groups):
        expected = metadata.row_group(place)
        columns = [expected.column(i) for i in range(expected.num_columns)]
        assert group.num_rows == expected.num_rows
        assert group.num_values == {c.path_in_schema: c.num_values for c in columns}


def test_a_damaged_footer_is_a_value_error_or_another_answer(path: Path):
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    start = len(whole) - 8 - length
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        data = bytearray(whole)
        for place in random.integers(start, len(whole) - 8, size=random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            read_row_groups(path)
        except ValueError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1" * 3, b"\xff\xff\xff\xffPAR1", b"\x02\0\0\0PAR1"]
)
def test_what_has_no_footer_is_refused(data: bytes, tmp_path: Path):
    file = tmp_path / "t.parquet"
    file.write_bytes(data)
    with pytest.raises(ValueError, match="footer"):
        read_row_groups(file)


def test_deep_structures_are_refused(tmp_path: Path):
    deep = b"\x1c" * 10_000
    file = tmp_path / "t.parquet"
    file.write_bytes(b"PAR1" + deep + len(deep).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match="damaged"):
        read_row_groups(file)
