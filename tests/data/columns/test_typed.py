from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dlrm.config.data import BadRows, Split
from dlrm.config.errors import DataError
from dlrm.config.features import DenseFeature, Encoding, Missing, SparseFeature
from dlrm.data.columns.typed import typed_columns
from tests.data.raw import chunk, config, typed


def dense_of(values, **options):
    data = config(dense={"x": DenseFeature(**options)})
    table = typed(data, {"label": [0] * len(values), "x": values})
    return table["dense:x"].to_pylist()


def texts_of(values, **options):
    data = config(sparse={"x": SparseFeature(**options)})
    table = typed(data, {"label": [0] * len(values), "x": values})
    return table["sparse:x"].to_pylist()


def error_of(data, columns, **place):
    with pytest.raises(DataError) as caught:
        typed(data, columns, **place)
    return str(caught.value)


def same(found, expected):
    np.testing.assert_array_equal(np.array(found, float), np.array(expected, float))


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2.5", None], [1, -2.5, NAN]),
        ([" 1", "2 ", ""], [1, 2, NAN]),
        (["+3", "1e2", "nan"], [3, 100, NAN]),
        ([True, False, None], [1, 0, NAN]),
        ([1, 2**53, None], [1, 2**53, NAN]),
        ([1.5, NAN, None], [1.5, NAN, NAN]),
        (pa.array([None, None], pa.null()), [NAN, NAN]),
        (pa.array(["1", "2"]).dictionary_encode(), [1, 2]),
        (pa.array(["1", None], pa.large_string()), [1, NAN]),
    ],
)
def test_numbers_are_read_from_text_and_from_every_numeric_type(values, expected):
    same(dense_of(values), expected)


@pytest.mark.parametrize("bad", ["abc", "1_000", "inf", "-inf", "1e999", "0x10", "1,5"])
def test_a_value_that_is_no_finite_number_is_named_with_its_place(bad):
    message = error_of(
        config(dense={"age": DenseFeature(column="Age")}),
        {"label": [0, 1, 0], "Age": ["1", " 2", bad]},
    )
    assert "clicks.csv, line 4: column 'Age' must be a finite number" in message
    assert repr(bad) in message
    assert "data.bad_rows=skip" in message


def test_an_infinite_float_is_named_by_row_in_a_parquet_file():
    data = config(dense={"x": DenseFeature()})
    columns = {"label": [0, 1], "x": [1.0, float("inf")]}
    message = error_of(data, columns, file="a.parquet", first_row=1)
    assert "a.parquet, row 2: column 'x'" in message


def test_missing_dense_values_can_be_refused():
    data = config(dense={"x": DenseFeature(missing=Missing.error)})
    message = error_of(data, {"label": [0, 1], "x": ["1", None]})
    assert "line 3: column 'x' must be present" in message
    assert "it is missing" in message


def test_a_list_is_no_number():
    data = config(dense={"x": DenseFeature()})
    message = error_of(data, {"label": [0], "x": [[1.0]]})
    assert "data.dense_features.x" in message
    assert "list" in message


@pytest.mark.parametrize("label", ["2", "0.5", "yes", None, "-1"])
def test_a_label_other_than_0_or_1_is_named_with_file_line_and_value(label):
    message = error_of(config(label="click"), {"click": ["0", label]})
    assert "clicks.csv, line 3: column 'click' must be 0 or 1" in message
    assert ("missing" if label is None else repr(label)) in message


def test_labels_may_be_text_numbers_or_booleans():
    for values in (["0", "1.0"], [0, 1], [0.0, 1.0], [False, True]):
        assert typed(config(), {"label": values})["label"].to_pylist() == [0, 1]


@pytest.mark.parametrize("weight", ["-1", None, "inf", "x", "1e39"])
def test_a_sample_weight_must_be_finite_and_not_negative(weight):
    data = config(weight_column="w")
    message = error_of(data, {"label": [0, 1], "w": ["2.5", weight]})
    assert "line 3: column 'w' must be a finite weight of at least 0" in message


def test_the_earliest_bad_row_of_all_columns_is_the_one_named():
    data = config(dense={"a": DenseFeature(), "b": DenseFeature()})
    columns = {"label": [0] * 3, "a": ["1", "2", "x"], "b": ["1", "y", "2"]}
    assert "line 3: column 'b'" in error_of(data, columns)


def test_bad_rows_can_be_skipped_each_with_its_reason():
    data = config(dense={"a": DenseFeature()}, bad_rows=BadRows.skip)
    columns = {"label": ["0", "7", "1", "0"], "a": ["1", "2", "x", "4"]}
    found = typed_columns(chunk(columns), data)
    assert found.table["dense:a"].to_pylist() == [1, 4]
    assert found.table["__row"].to_pylist() == [2, 5]
    assert [bad.row for bad in found.bad_rows] == [3, 4]
    assert "'label'" in found.bad_rows[0].reason
    assert "'x'" in found.bad_rows[1].reason
    assert found.bad_rows[1].text == '{"label": "1", "a": "x"}'


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([17, 3, None], ["17", "3", ""]),
        ([17.0, 0.5, NAN], ["17", "0.5", ""]),
        ([-0.0, 0.0, 1e300], ["0", "0", "1e+300"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        ([True, False, None], ["true", "false", ""]),
        (["17", "17.0", " a"], ["17", "17.0", " a"]),
        (["", None, "é"], ["", "", "é"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", ""]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([datetime.date(2020, 1, 2)]), ["2020-01-02"]),
        (pa.array([None], pa.null()), [""]),
    ],
)
def test_every_raw_id_has_one_canonical_text(values, expected):
    assert texts_of(values) == expected


def test_integers_that_pandas_turned_to_floats_keep_their_text():
    whole = texts_of(pa.array(pd.Series([1, 250000])))
    with_gap = texts_of(pa.array(pd.Series([1, 250000, None])))
    assert with_gap[:2] == whole == ["1", "250000"]


def test_lists_in_a_one_hot_feature_are_refused_with_the_setting_to_change():
    data = config(sparse={"x": SparseFeature()})
    assert "multi_hot=true" in error_of(data, {"label": [0], "x": [["a"]]})


def test_identity_ids_must_be_whole_numbers():
    feature = SparseFeature(encoding=Encoding.identity, num_embeddings=9)
    data = config(sparse={"x": feature})
    message = error_of(data, {"label": [0] * 3, "x": ["4", "", "four"]})
    assert "line 4: column 'x' must be a whole number, but it is 'four'" in message


@pytest.mark.parametrize(
    ("delimiter", "mark"),
    [
        ("comma", ","),
        ("tab", "\t"),
        ("pipe", "|"),
        ("caret", "^"),
        ("semicolon", ";"),
        ("space", " "),
        ("::", "::"),
    ],
)
def test_bags_are_cut_by_a_delimiter_and_empty_ids_dropped(delimiter, mark):
    values = [mark.join(["a", "b"]), mark + "a" + mark, "", None, "c"]
    bags = texts_of(values, multi_hot=True, delimiter=delimiter)
    assert bags == [["a", "b"], ["a"], [], [], ["c"]]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_(pa.float32())]
)
def test_bags_are_read_from_list_columns_of_any_kind(kind):
    values = pa.array([[1, 2], [], None, [3, None]], kind)
    assert texts_of(values, multi_hot=True) == [["1", "2"], [], [], ["3"]]


def test_bags_of_a_sliced_list_column_are_those_of_the_slice():
    values = pa.array([["a"], ["b", "c"], None, ["d"]]).slice(1)
    assert texts_of(values, multi_hot=True) == [["b", "c"], [], ["d"]]


def test_text_without_a_delimiter_is_no_bag():
    data = config(sparse={"x": SparseFeature(multi_hot=True)})
    assert "delimiter" in error_of(data, {"label": [0], "x": ["a|b"]})


def test_long_bags_keep_their_first_ids():
    options = {"multi_hot": True, "delimiter": "pipe", "max_length": 2}
    assert texts_of(["a||b|c", "d", ""], **options) == [["a", "b"], ["d"], []]


def weighted(values, weights, **settings):
    feature = SparseFeature(multi_hot=True, delimiter="pipe", weight_column="w")
    data = config(sparse={"x": feature}, **settings)
    return data, {"label": [0] * len(values), "x": values, "w": weights}


@pytest.mark.parametrize(
    "weights", [["0.5|2", "", "1"], [[0.5, 2], None, [1]], ["0.5|2", None, "1.0"]]
)
def test_each_id_has_its_weight(weights):
    table = typed(*weighted(["a|b", None, "c"], weights))
    assert table["sparse:x"].to_pylist() == [["a", "b"], [], ["c"]]
    assert table["weights:x"].to_pylist() == [[0.5, 2], [], [1]]


def test_a_dropped_empty_id_takes_its_weight_along():
    table = typed(*weighted(["a||b"], ["1|5|2"]))
    assert table["weights:x"].to_pylist() == [[1, 2]]


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        (["1|2", "3|4"], "1 ids and 2 weights"),
        (["1|2", None], "1 ids and 0 weights"),
        (["1|2", "x"], "finite numbers as weights"),
        (["1|2", "inf"], "finite numbers as weights"),
    ],
)
def test_weights_that_do_not_fit_their_ids_are_named_by_row(weights, reason):
    message = error_of(*weighted(["a|b", "c"], weights))
    assert "clicks.csv, line 3: column 'w'" in message
    assert reason in message


def test_a_skipped_row_of_wrong_weights_leaves_the_others_aligned():
    data, columns = weighted(["a|b", "c|d", "e"], ["1|2", "3", "4"])
    data.bad_rows = BadRows.skip
    found = typed_columns(chunk(columns), data)
    assert found.table["sparse:x"].to_pylist() == [["a", "b"], ["e"]]
    assert found.table["weights:x"].to_pylist() == [[1, 2], [4]]
    assert [bad.row for bad in found.bad_rows] == [3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([978300760, 978300761], [978300760, 978300761]),
        (["978300760", "5.5"], [978300760, 5.5]),
        (["1970-01-02", "1970-01-01 00:00:01"], [86400, 1]),
        (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:02Z"], [0, 2]),
        (["1970-01-02", "7"], [86400, 7]),
        (pa.array([1500], pa.timestamp("ms")), [1.5]),
        (pa.array([1], pa.date32()), [86400]),
    ],
)
def test_times_are_epoch_seconds_or_iso_8601(values, expected):
    data = config(split=Split.time, time_column="t")
    table = typed(data, {"label": [0] * len(values), "t": values})
    assert table["time"].to_pylist() == expected


def test_a_time_that_is_none_is_named():
    data = config(split=Split.time, time_column="t")
    message = error_of(data, {"label": [0, 1], "t": ["2020-01-01", "yesterday"]})
    assert "line 3: column 't'" in message
    assert "'yesterday'" in message


def test_a_split_column_must_say_train_valid_or_test():
    data = config(split=Split.column, split_column="part")
    good = typed(data, {"label": [0] * 3, "part": ["test", "train", "valid"]})
    assert good["split"].to_pylist() == [2, 0, 1]
    message = error_of(data, {"label": [0, 1], "part": ["train", "dev"]})
    assert "line 3: column 'part'" in message
    assert "'dev'" in message


def test_a_column_that_is_not_there_is_refused_with_the_nearest_name():
    data = config(sparse={"genre": SparseFeature(column="genre")})
    message = error_of(data, {"label": [0], "genres": ["a"]})
    assert "'genre', which data.sparse_features.genre.column names" in message
    assert "Did you mean 'genres'?" in message


def test_one_column_may_serve_several_features():
    data = config(
        dense={"age": DenseFeature()}, sparse={"age_id": SparseFeature(column="age")}
    )
    table = typed(data, {"label": [0], "age": ["7"]})
    assert table["dense:age"].to_pylist() == [7]
    assert table["sparse:age_id"].to_pylist() == ["7"]


def test_rows_to_be_scored_need_no_label_weight_or_split_columns():
    data = config(
        dense={"a": DenseFeature()},
        weight_column="w",
        split=Split.time,
        time_column="t",
    )
    table = typed_columns(
        chunk({"a": [1.0]}), data, with_labels=False, with_split=False
    ).table
    assert table.column_names == ["dense:a", "__file", "__row"]


def test_kept_columns_stay_as_they_came():
    found = typed_columns(chunk({"label": [1], "note": ["x"]}), config(), keep=["note"])
    assert found.table["raw:note"].to_pylist() == ["x"]


def test_an_empty_chunk_gives_an_empty_table():
    data = config(
        dense={"a": DenseFeature()},
        sparse={"b": SparseFeature(), "c": SparseFeature(multi_hot=True)},
    )
    columns = {
        "label": pa.array([], pa.string()),
        "a": pa.array([], pa.string()),
        "b": pa.array([], pa.string()),
        "c": pa.array([], pa.list_(pa.string())),
    }
    assert typed(data, columns).num_rows == 0
