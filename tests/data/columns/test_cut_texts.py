"""Texts are cut at their delimiter; brackets are lists of JSON and pandas."""

import json

import pyarrow as pa
import pytest

from dlrm.data.columns.cut_texts import cut_texts


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (json.dumps(["a", "b c"]), ["a", "b c"]),
        (str(["a", "b c"]), ["a", "b c"]),
        (str(("a",)), ["a"]),
        (json.dumps([1, 22]), ["1", "22"]),
        (" [ 1 ,2 ] ", ["1", "2"]),
        ("['a',\n 'b']", ["a", "b"]),
        ("['a [x]']", ["a [x]"]),
        ("[]", []),
        ("[ ]", []),
        ("", []),
        (None, []),
        ("a, b", ["a", "b"]),
    ],
)
def test_a_list_in_brackets_is_its_ids(text, ids):
    texts = pa.array(["[0]", text, "[9]"])
    assert cut_texts(texts, "brackets").to_pylist() == [["0"], ids, ["9"]]


def test_other_delimiters_cut_and_change_nothing_else():
    assert cut_texts(pa.array(["a| b", "[c]"]), "|").to_pylist() == [
        ["a", " b"],
        ["[c]"],
    ]
