"""A value means the same whatever stands beside it, and messages stay short."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dlrm.config.data import BadRows, DataConfig, SourceFormat
from dlrm.config.errors import DataError
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.data.columns.parse_numbers import parse_numbers, parse_times
from dlrm.data.columns.shown import cell, cut_short, listed, shown
from dlrm.data.columns.typed import typed_columns
from dlrm.data.columns.whole_numbers import is_whole_number, whole_numbers
from dlrm.data.sources.chunk import Chunk


@pytest.mark.parametrize("odd", ["-nan", "+nan", "nan(1)"])
@pytest.mark.parametrize("beside", ["1", " 1", "no number"])
def test_what_only_arrow_takes_for_nan_is_no_number(odd: str, beside: str):
    assert 1 in parse_numbers(pa.array([beside, odd]), "x").bad


@pytest.mark.parametrize("text", ["nan", "NaN", "NAN", " nan ", "", None])
def test_nan_in_any_case_is_missing(text: str | None):
    numbers = parse_numbers(pa.array(["1", text], pa.string()), "x")
    assert np.isnan(numbers.values[1])
    assert numbers.bad.size == 0


@pytest.mark.parametrize("beside", ["7", "+7"])
def test_hexadecimal_is_no_whole_number(beside: str):
    texts = pa.array(["0x10", beside, "0X1f"])
    assert is_whole_number(texts).tolist() == [False, True, False]
    assert whole_numbers(texts).tolist() == [-1, 7, -1]


@pytest.mark.parametrize("beside", ["2020-01-01", "17"])
def test_the_year_0_is_no_time(beside: str):
    assert parse_times(pa.array(["0000-01-01", beside]), "x").bad.tolist() == [0]


def chunk(**columns: pa.Array) -> Chunk:
    table = pa.table(columns)
    return Chunk(table, "t.csv", np.arange(2, 2 + table.num_rows))


def config(**settings: object) -> DataConfig:
    return DataConfig(name="t", format=SourceFormat.table, label="y", **settings)


def test_a_weight_too_large_for_float32_makes_its_row_bad():
    data = config(
        sparse_features={
            "b": SparseFeature(multi_hot=True, delimiter="|", weight_column="w")
        },
        bad_rows=BadRows.skip,
    )
    rows = chunk(
        y=pa.array(["0", "1"]), b=pa.array(["a|b", "a"]), w=pa.array(["1|1e39", "2"])
    )
    typed = typed_columns(rows, data)
    assert [bad.row for bad in typed.bad_rows] == [2]
    assert "'w' must have finite numbers" in typed.bad_rows[0].reason
    assert typed.table["weights:b"].to_pylist() == [[2.0]]


def test_a_map_is_no_bag():
    data = config(sparse_features={"b": SparseFeature(multi_hot=True)})
    pairs = pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))
    with pytest.raises(DataError, match=r"'b' .* it holds map<string, int64"):
        typed_columns(chunk(y=pa.array([1]), b=pairs), data)


def test_a_bad_row_of_the_year_10000_is_set_aside():
    data = config(
        sparse_features={"s": SparseFeature()}, bad_rows=BadRows.skip, keep=["t"]
    )
    far = pa.array([2**52], pa.int64()).cast(pa.timestamp("s"))
    typed = typed_columns(chunk(y=pa.array([7]), s=pa.array(["a"]), t=far), data)
    assert typed.bad_rows[0].reason == "column 'y' must be 0 or 1, but it is 7"


def test_a_value_of_megabytes_is_named_by_its_beginning():
    data = config(dense_features={"d": DenseFeature()})
    rows = chunk(y=pa.array(["1"]), d=pa.array(["x" * 5_000_000]))
    with pytest.raises(DataError, match=r"'xxx.*\.\.\. \(5,000,002 characters\)") as e:
        typed_columns(rows, data)
    assert len(str(e.value)) < 500


def test_names_and_values_are_listed_in_short():
    assert shown("a") == "'a'"
    assert cut_short("abcdef", most=3) == "abc... (6 characters)"
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed([str(n) for n in range(20)], most=2) == "'0', '1' and 18 more"


def test_a_cell_that_python_has_no_value_for_is_text():
    column = pa.chunked_array([pa.array([1, 2**62], pa.int64()).cast("timestamp[us]")])
    assert cell(column, 0).year == 1970
    assert "out of range" in cell(column, 1)
