"""Native parsing holds to what Python makes of the same text, or refuses it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.data.transforms import hashing
from dlrm.data.transforms.hashing import hash_texts
from dlrm.kernels import text_library
from dlrm.kernels.text_library import CodedTexts, ColumnKind, read_text

NUMBER, TEXT = ColumnKind.number, ColumnKind.text
pytestmark = pytest.mark.skipif(
    not text_library.reads_text(), reason="no C++ compiler built the library"
)


def texts_of(column: np.ndarray | CodedTexts) -> list[bytes]:
    assert isinstance(column, CodedTexts)
    data, offsets = column.data.tobytes(), column.offsets.tolist()
    texts = [data[a:b] for a, b in pairwise(offsets)]
    assert len(set(texts)) == len(texts)
    firsts = [column.codes.tolist().index(code) for code in range(len(texts))]
    assert firsts == sorted(firsts), "codes are not in order of first use"
    return [texts[code] for code in column.codes]


def read_one(cells: list[bytes], kind: ColumnKind, **options):
    data = b"".join(b"x\t%s\ty\n" % cell for cell in cells)
    return read_text(
        data, separator=b"\t", num_fields=3, num_rows=len(cells), columns=[(1, kind)],
        **options,
    )  # fmt: skip


FIELD = st.binary(max_size=20).map(lambda b: b.translate(None, b"\t\n\r\0"))


@given(st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=40))
def test_texts_are_those_between_separators(rows: list[tuple[bytes, ...]]):
    data = b"".join(b"\t".join(row) + b"\n" for row in rows)
    found = read_text(
        data, separator=b"\t", num_fields=3, num_rows=len(rows),
        columns=[(2, TEXT), (0, TEXT)],
    )  # fmt: skip
    assert found is not None
    assert texts_of(found.columns[0]) == [row[2] for row in rows]
    assert texts_of(found.columns[1]) == [row[0] for row in rows]
    assert found.is_ascii == data.isascii()


SPELLED = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=6).map(str),
    st.sampled_from(["", "-0", "0.1", ".5", "5.", "1e3", "1E-3", "123456789012345.6"]),
)


@settings(max_examples=300)
@given(st.lists(SPELLED, min_size=1, max_size=20))
def test_numbers_are_pythons_to_the_bit(spelled: list[str]):
    found = read_one([text.encode() for text in spelled], NUMBER)
    assert found is not None
    expected = np.array([float(text) if text else math.nan for text in spelled])
    (numbers,) = found.columns
    assert isinstance(numbers, np.ndarray)
    assert numbers.view(np.int64).tolist() == expected.view(np.int64).tolist()


@pytest.mark.parametrize(
    "cell",
    ["nan", "inf", "-inf", "1e999", "+1", " 1", "1 ", "1,5", "0x1F", "1_000", "--1",
     "1e", "-", ".", "e5", "1.2.3", "12-", "\u0661"],
)  # fmt: skip
def test_numbers_spelled_in_other_ways_are_left_to_others(cell: str):
    assert read_one([b"1", cell.encode()], NUMBER) is None


def test_a_null_value_is_a_missing_number():
    found = read_one([b"NA", b"2", b""], NUMBER, nulls=[b"null", b"NA"])
    assert found is not None
    np.testing.assert_array_equal(found.columns[0], [math.nan, 2.0, math.nan])
    assert read_one([b"N", b"2"], NUMBER, nulls=[b"null", b"NA"]) is None


@pytest.mark.parametrize(
    ("data", "num_rows"),
    [
        (b"a\tb\nc\n", 2),
        (b"a\tb\nc\td\te\n", 2),
        (b"a\tb\n\n", 2),
        (b"a\tb\n", 2),
        (b"a\tb\nc\td\n", 1),
        (b"a\tb\nc\td", 2),
        (b"", 1),
    ],
)
def test_rows_of_another_shape_are_refused(data: bytes, num_rows: int):
    columns = [(0, TEXT)]
    options = {"separator": b"\t", "num_fields": 2, "columns": columns}
    assert read_text(data, num_rows=num_rows, **options) is None
    assert read_text(b"a\tb\nc\td\n", num_rows=2, **options) is not None


@pytest.mark.parametrize("num_rows", [1, 1023, 1024, 1025, 5000])
def test_rows_beyond_one_strip_and_many_texts(num_rows: int):
    cells = [b"%d" % (row * 7919 % 3001) for row in range(num_rows)]
    found = read_one(cells, TEXT)
    assert found is not None
    assert texts_of(found.columns[0]) == cells


def test_carriage_returns_before_line_ends_are_no_text():
    options = {"separator": b",", "num_fields": 2, "num_rows": 2}
    found = read_text(b"a,1\r\nb,2\r\n", columns=[(0, TEXT), (1, NUMBER)], **options)
    assert found is not None
    assert texts_of(found.columns[0]) == [b"a", b"b"]
    assert found.columns[1].tolist() == [1, 2]


@given(st.binary(max_size=200).map(lambda b: b.replace(b"\0", b"\n")), st.data())
def test_lines_are_counted_and_blank_ones_seen(data: bytes, drawn: st.DataObject):
    size = drawn.draw(st.integers(0, len(data)))
    *lines, _ = data[:size].split(b"\n")
    expected = len(lines), b"" in lines
    assert text_library.count_lines(data, size) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_library, "loaded", lambda: None)
        assert text_library.count_lines(data, size) == expected


TEXTS = st.one_of(st.none(), st.text(max_size=30), st.text(min_size=250, max_size=270))


@given(st.lists(TEXTS, max_size=30), st.integers(0, 3))
def test_hashes_are_those_of_the_definition(texts: list[str | None], start: int):
    array = pa.array(texts, pa.string()).slice(start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "hash_texts_natively", lambda starts, data: None)
        expected = hash_texts(array)
    np.testing.assert_array_equal(hash_texts(array), expected)


def test_without_the_library_nothing_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_library, "loaded", lambda: None)
    assert read_one([b"a"], TEXT) is None
    offsets, data = np.zeros(1, np.int64), np.zeros(0, np.uint8)
    assert text_library.hash_texts_natively(offsets, data) is None
