from __future__ import annotations

import datetime

import numpy as np
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


def written(path, tables, schema):
    file = SideFile.create(path, schema, tables[0].schema)
    for table in tables:
        file.append(table)
    return file.finish()[path].size


def test_texts_may_come_as_dictionaries_and_are_found_as_strings(tmp_path):
    texts = pa.schema([("__row", pa.int64()), ("text", pa.string())])
    parts = [[None, None, None], ["a", "b", None], ["c", "b", "b"], ["d", "a", "c"]]
    tables = [
        pa.table({"__row": [0, 1, 2], "text": pa.array(part).dictionary_encode()})
        for part in (pa.array(part, pa.string()) for part in parts)
    ]
    path = tmp_path / "part.parquet"
    written(path, tables, texts)
    found = pq.read_table(path)
    assert found.schema.equals(texts, check_metadata=True)
    assert found["text"].to_pylist() == [text for part in parts for text in part]
    assert found["__row"].to_pylist() == [0, 1, 2] * 4


def test_coded_texts_take_no_more_room_than_plain_ones(tmp_path):
    generator = np.random.default_rng(0)
    names = np.array([f"{n * 2654435761 % 2**32:08x}" for n in range(1000)])
    # As in a prepared block: the order of the texts says nothing of their frequency.
    shuffled = generator.permutation(1000)
    codes = [shuffled[generator.zipf(1.3, 9000) % 1000] for _ in range(9)]
    plain = [pa.table({"text": names[part]}) for part in codes]
    coded = [
        pa.table({"text": pa.DictionaryArray.from_arrays(part, own, safe=False)})
        for part, own in (
            (pa.array(part, pa.int32()), pa.array(names)) for part in codes
        )
    ]
    schema = pa.schema([("text", pa.string())])
    size = written(tmp_path / "coded.parquet", coded, schema)
    assert size <= written(tmp_path / "plain.parquet", plain, schema)
    found = pq.read_table(tmp_path / "coded.parquet")
    assert (
        found["text"].to_pylist() == np.concatenate([names[c] for c in codes]).tolist()
    )


def test_a_dictionary_may_hold_a_text_twice(tmp_path):
    indices, texts = pa.array([0, 2, 1, None], pa.int32()), pa.array(["a", "b", "a"])
    side = pa.table({"text": pa.DictionaryArray.from_arrays(indices, texts)})
    path = tmp_path / "part.parquet"
    written(path, [side, side], pa.schema([("text", pa.string())]))
    assert pq.read_table(path)["text"].to_pylist() == ["a", "a", "b", None] * 2
