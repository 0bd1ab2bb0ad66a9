from __future__ import annotations

import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm.data.storage.side_file import SideFile

COLUMNS = {
    "int8": pa.array([0, -128, None, 127], pa.int8()),
    "int64": pa.array([-(2**63), 2**63 - 1, None, 0]),
    "uint64": pa.array([2**64 - 1, 0, None, 2**63], pa.uint64()),
    "double": pa.array([0.5, float("nan"), None, -0.0]),
    "bool": pa.array([True, False, None, True]),
    "text": pa.array(["a", "", None, "ü"]),
    "large_text": pa.array(["a", "", None, "ü"], pa.large_string()),
    "codes": pa.array(["a", "", None, "a"]).dictionary_encode(),
    "bytes": pa.array([b"a", b"", None, b"\xff"]),
    "nothing": pa.nulls(4, pa.string()),
    "time": pa.array([datetime.datetime(2020, 1, 1)] * 4, pa.timestamp("us", "UTC")),
    "date": pa.array([datetime.date(2020, 1, 1), None] * 2),
    "list": pa.array([["a"], [], None, ["b", "c"]]),
    "with.dot": pa.array([1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_comes_back_as_it_was(tmp_path, name):
    side = pa.table({"__row": pa.array(range(4)), name: COLUMNS[name]})
    file = SideFile.create(tmp_path / "side" / "part.parquet", side.schema)
    file.append(side)
    file.append(side)
    (path,) = file.finish()
    found = pq.read_table(path)
    assert found.schema.equals(side.schema)
    # Texts, as a NaN is equal to none.
    assert str(found.to_pydict()) == str(pa.concat_tables([side, side]).to_pydict())
