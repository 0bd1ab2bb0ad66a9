from __future__ import annotations

import pyarrow as pa
import pytest

from dlrm.config.errors import DataError
from dlrm.config.labels import LabelKind
from dlrm.data.columns.class_lists import parse_classes


def parse(values, kind, delimiter=None):
    classes, bad = parse_classes(values, kind, delimiter=delimiter, what="labels")
    return classes.to_pylist(), bad.tolist()


def test_one_class_a_row_may_be_text_a_number_or_a_list_of_one():
    one = LabelKind.multiclass
    assert parse(pa.array(["a", "b"]), one) == ([["a"], ["b"]], [])
    assert parse(pa.array([3.0, 7.0]), one) == ([["3"], ["7"]], [])
    assert parse(pa.array([["a"], ["b"]]), one) == ([["a"], ["b"]], [])


def test_rows_of_no_class_or_of_several_break_multiclass():
    values = pa.array([["a"], [], ["a", "b"], None, ["b", "b"]])
    assert parse(values, LabelKind.multiclass)[1] == [1, 2, 3]
    assert parse(pa.array(["a", None, ""]), LabelKind.multiclass)[1] == [1, 2]


@pytest.mark.parametrize(
    ("values", "delimiter"),
    [
        (pa.array(["a|b|a", "", None, "b"]), "pipe"),
        (pa.array([["a", "b", "a"], [], None, ["b"]]), None),
    ],
)
def test_several_classes_a_row_count_once_each_and_may_be_none(values, delimiter):
    found = parse(values, LabelKind.multilabel, delimiter)
    assert found == ([["a", "b"], [], [], ["b"]], [])


def test_text_of_several_classes_needs_a_delimiter():
    with pytest.raises(DataError, match=r"labels must hold lists .* holds string"):
        parse(pa.array(["a|b"]), LabelKind.multilabel)
