from itertools import chain

import numpy as np
import pyarrow as pa
import pytest

from dlrm.config.slices import TimeWindow
from dlrm.evaluation.slices.dealing import (
    by_activity,
    by_range,
    by_value,
    by_window,
    count_values,
    encode_values,
)
from dlrm.evaluation.slices.dimensions import NoDimensionError, cross


def column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def dealt(dimension):
    """Return each row's slice by name."""
    return [dimension.names[code].text for code in dimension.codes]


def test_every_row_is_in_the_slice_of_its_value():
    found = by_value("d", column(["tv", None, "pc", "tv", ""]), num_shown=9)
    assert dealt(found) == ["tv", "(missing)", "pc", "tv", "(missing)"]
    assert [name.kind for name in found.names] == ["value", "value", "missing"]
    assert found.facts == {"num_values": 2}


def test_beyond_the_most_frequent_values_all_are_others():
    values = ["a"] * 3 + ["b"] * 2 + ["c", "d", None]
    found = by_value("d", column(values), num_shown=2)
    assert [name.text for name in found.names] == ["a", "b", "(missing)", "(others)"]
    assert dealt(found) == [*"aaabb", "(others)", "(others)", "(missing)"]
    assert found.facts == {"num_values": 4}


def test_a_value_called_others_is_no_other():
    found = by_value("d", column(["(others)", "(missing)", "x", "x"]), num_shown=2)
    assert [(n.text, n.kind) for n in found.names] == [
        ("x", "value"),
        ("(missing)", "value"),
        ("(others)", "others"),
    ]


def test_a_million_values_become_a_few_slices():
    values = np.arange(100_000) // 2
    found = by_value("d", column(values), num_shown=20)
    assert len(found.names) == 21
    assert found.facts == {"num_values": 50_000}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", None], pa.dictionary(pa.int32(), pa.string())),
        ([1, 2, None], pa.int64()),
        ([1.0, 2.0, float("nan")], pa.float64()),
        ([1.0, 2.0, None], pa.float32()),
    ],
)
def test_values_of_every_type_are_told_apart_by_their_text(values, kind):
    codes, texts = encode_values(column(values, kind))
    assert [texts[code] for code in codes] == ["1", "2", ""]


def test_lists_have_no_single_value():
    with pytest.raises(NoDimensionError, match=r"list<.*>, not one value each"):
        by_value("d", column([["a"], ["b", "c"]]), num_shown=5)


def test_ranges_hold_equally_many_rows_and_show_their_edges():
    values = list(range(1, 13))
    found = by_range("bucket:p:4", column([*values, None]), num_buckets=4)
    assert found.facts["edges"] == [1, 3, 6, 9, 12]
    assert dealt(found) == [
        *["1 to 3"] * 3, *["above 3 to 6"] * 3, *["above 6 to 9"] * 3,
        *["above 9 to 12"] * 3, "(missing)",
    ]  # fmt: skip


def test_many_random_numbers_fall_into_ranges_of_one_size():
    values = np.random.default_rng(0).lognormal(size=10_000)
    found = by_range("bucket:p:10", column(values), num_buckets=10)
    assert np.bincount(found.codes).tolist() == [1_000] * 10
    edges = found.facts["edges"]
    for number in range(10):
        inside = values[found.codes == number]
        assert edges[number] <= inside.min() <= inside.max() == edges[number + 1]


def test_rows_of_one_number_stay_in_one_range():
    found = by_range("bucket:p:10", column(["0"] * 95 + ["7"] * 5), num_buckets=10)
    assert dealt(found) == ["0"] * 95 + ["above 0 to 7"] * 5
    only = by_range("bucket:p:10", column(["5", "5", "x"]), num_buckets=10)
    assert dealt(only) == ["5", "5", "(missing)"]
    with pytest.raises(NoDimensionError, match="none of its values is a number"):
        by_range("bucket:p:10", column(["x", None]), num_buckets=10)


def test_days_and_hours_are_utc_and_in_order():
    day = 86_400
    seconds = np.array([2 * day + 5, 30, day - 1, day, np.nan, 1.5 * day])
    days = by_window("time:day", seconds, TimeWindow.day)
    assert [name.text for name in days.names] == [
        "1970-01-01", "1970-01-02", "1970-01-03", "(missing)",
    ]  # fmt: skip
    assert days.codes.tolist() == [2, 0, 0, 1, 3, 1]
    hours = by_window("time:hour", seconds, TimeWindow.hour)
    assert dealt(hours)[1:4] == [
        "1970-01-01 00:00", "1970-01-01 23:00", "1970-01-02 00:00",
    ]  # fmt: skip
    of_day = by_window("time:hour_of_day", seconds, TimeWindow.hour_of_day)
    assert dealt(of_day) == ["00:00", "00:00", "23:00", "00:00", "(missing)", "12:00"]


def test_too_many_windows_are_none():
    with pytest.raises(NoDimensionError, match="1,000 windows of one day"):
        by_window("time:day", np.arange(1_000) * 86_400.0, TimeWindow.day)
    with pytest.raises(NoDimensionError, match="no row has a time"):
        by_window("time:day", np.full(3, np.nan), TimeWindow.day)


def test_activity_counts_training_rows_where_there_are_any():
    groups = column(["new", "few", "many", None])
    training = {"few": 4, "many": 150, "gone": 1}
    found = by_activity("activity", groups, training)
    assert dealt(found) == ["0 rows", "1 to 4 rows", "100 to 499 rows", "(missing)"]
    assert found.facts == {"counted": "training rows"}


@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        (
            [["b", "a"], ["a", None, ""], ["c"], ["a"] * 9],
            {"a": 11, "b": 1, "c": 1, "": 2},
        ),
        ([[3, 1], [3, None]], {"3": 2, "1": 1, "": 1}),
        ([[3.0, float("nan"), 0.5], [3.0, float("nan")]], {"3": 2, "0.5": 1, "": 2}),
        ([[], [None]], {"": 1}),
        ([], {}),
    ],
)
def test_values_are_counted_part_by_part(parts, counts):
    kind = pa.array(list(chain(*parts))).type
    plain = [pa.array(part, kind) for part in parts]
    assert count_values(plain) == counts
    assert count_values(part.dictionary_encode() for part in plain) == counts


def test_activity_counts_the_evaluated_rows_otherwise():
    found = by_activity("activity", column(["a"] * 5 + ["b"]), None)
    assert dealt(found) == ["5 to 19 rows"] * 5 + ["1 to 4 rows"]
    assert found.facts == {"counted": "evaluated rows"}


def test_a_crossing_has_every_pair_that_occurs():
    first = by_value("a", column(["x", "x", "y", None]), num_shown=9)
    second = by_value("b", column(["1", "2", "1", "1"]), num_shown=9)
    found = cross(first, second, num_shown=9)
    assert dealt(found) == ["x x 1", "x x 2", "y x 1", "(missing) x 1"]
    assert found.names[0].values == ("(missing)", "1")
    cut = cross(first, second, num_shown=1)
    assert len(cut.names) == 2
    assert cut.names[1].kind == "others"
