from __future__ import annotations

import pyarrow as pa
import pytest

from dlrm.config.features import SparseFeature
from dlrm.data.preparation.kept_columns import decoded_schema, side_table
from tests.data.raw import config


def coded(codes, texts):
    indices = pa.array(codes, pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array(texts))


FEATURES = {
    "none missing": (coded([1, 0, 1, 1], ["a", "b"]), ["b", "a", "b", "b"]),
    "some missing": (coded([1, 0, 2, 0], ["", "a", "b"]), ["a", None, "b", None]),
    "missing written twice": (
        coded([2, 1, 0, 0], ["a", "", ""]),
        [None, None, "a", "a"],
    ),
    "all missing": (coded([0, 0, 0, 0], [""]), [None] * 4),
    "a part": (coded([0, 1, 1, 0, 1, 0], ["", "a"])[1:5], ["a", "a", None, "a"]),
}


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_kept_as_texts_and_missing_as_null(name):
    column, expected = FEATURES[name]
    data = config(sparse={"feature": SparseFeature(column="raw_name")})
    typed = pa.table(
        {
            "__file": coded([0, 0, 0, 0], ["x.csv"]),
            "__row": pa.array(range(4)),
            "raw:id": pa.array([5, None, 7, 8]),
            "sparse:feature": column,
        }
    )
    types = {"id": pa.int16()}
    side = side_table(typed, data, ["id", "raw_name"], types)
    assert side.schema.names == ["__file", "__row", "id", "raw_name"]
    assert side["raw_name"].type == pa.string()
    assert side["raw_name"].to_pylist() == expected
    assert side["id"].to_pylist() == [5, None, 7, 8]
    left_coded = side_table(typed, data, ["id", "raw_name"], types, coded=True)
    assert pa.types.is_dictionary(left_coded["raw_name"].type)
    assert decoded_schema(left_coded.schema) == side.schema
    assert left_coded.cast(side.schema) == side
