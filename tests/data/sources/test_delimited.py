"""The fast reader against the definition, as a machine over characters."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.config.data import BadRows
from dlrm.config.errors import ConfigError, DataError
from dlrm.data.sources.delimited import delimited_pieces, read_delimited
from dlrm.data.sources.dialect import Dialect

PLAIN = Dialect()


def read(path: Path, dialect: Dialect = PLAIN, **options):
    """All rows as (line, values), and all quarantined rows."""
    files = path if isinstance(path, list) else [path]
    rows, bad = [], []
    for chunk in read_delimited(files, dialect, **options):
        columns = chunk.table.to_pydict()
        values = zip(*columns.values(), strict=True)
        rows += zip(chunk.rows.tolist(), values, strict=True)
        bad += chunk.quarantined
    return rows, bad


def judge(text: str, num_columns: int, separator: str = ",", quoting: bool = True):
    """Split text into (line, fields), or (line, None) where the row is bad."""
    rows, fields, field, closed_field = [], [], "", ""
    state, line, start, bad, any_text = "start", 1, 1, False, False
    if text and not text.endswith("\n"):
        text += "\n"
    i = 0
    while i < len(text):
        char = text[i]
        if state == "quoted":
            if char == '"' and text[i + 1 : i + 2] == '"':
                field += '"'
                i += 1
            elif char == '"':
                state = "closed"
            else:
                field += char
        elif char in (separator, "\n"):
            if char == "\n" and field.endswith("\r") and state != "closed":
                field = field[:-1]
            if state == "tail" and field != closed_field:
                bad = True
            fields.append(field)
            field, state = "", "start"
            if char == "\n":
                blank = len(fields) == 1 and not any_text and num_columns > 1
                rows.append(
                    (start, None if bad or len(fields) != num_columns else fields)
                )
                if blank:
                    rows[-1] = (start, "blank")
                fields, bad, any_text, start = [], False, False, line + 1
        elif char == '"' and state == "start" and quoting:
            state, any_text = "quoted", True
        else:
            if state == "closed":
                closed_field, state = field, "tail"
            elif state == "start":
                state = "text"
            field += char
            any_text = any_text or char != "\r"
        line += char == "\n"
        i += 1
    while rows and rows[-1][1] == "blank":
        rows.pop()
    assert state != "quoted"
    return [(at, None if found == "blank" else found) for at, found in rows]


FIELD = st.text(alphabet='ab",\n\r |', max_size=5)


PIECE = st.sampled_from(
    ["a\n", "a,b\n", ",\n", "\n", "\r\n", 'a,"b\n\n"\r\n', "a,b,c\n"]
)
PIECE |= st.text(alphabet='aé",\n\r\x00', max_size=8)


@st.composite
def quoted_files(draw):
    """Rows written as RFC 4180 says, some ragged, and what they must read as."""
    num_columns = draw(st.integers(2, 4))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    text, expected, line = "", [], 2
    for _ in range(draw(st.integers(0, 12))):
        width = draw(
            st.sampled_from([num_columns] * 6 + [num_columns - 1, num_columns + 1])
        )
        fields = [draw(FIELD) for _ in range(width)]
        must = [any(mark in field for mark in '",\n\r') for field in fields]
        quote = [m or draw(st.booleans()) for m in must]
        written = [
            '"' + field.replace('"', '""') + '"' if q else field
            for field, q in zip(fields, quote, strict=True)
        ]
        record = ",".join(written)
        if record:
            expected.append((line, fields if width == num_columns else None))
            text += record + ends
            line += 1 + record.count("\n")
    return num_columns, text, expected


@settings(max_examples=100, deadline=None)
@given(quoted_files(), st.integers(1, 64))
def test_quoted_and_ragged_files_read_as_they_were_written(
    tmp_path_factory, file, block_bytes
):
    num_columns, text, expected = file
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    names = [f"c{i}" for i in range(num_columns)]
    path.write_bytes((",".join(names) + "\n" + text).encode())
    rows, bad = read(path, bad_rows=BadRows.skip, block_bytes=block_bytes)
    good = [
        (line, tuple(field or None for field in fields))
        for line, fields in expected
        if fields is not None
    ]
    assert rows == good
    assert [b.row for b in bad] == [line for line, fields in expected if fields is None]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(PIECE, max_size=12).map("".join),
    st.integers(1, 3),
    st.booleans(),
    st.integers(1, 64),
)
def test_any_text_reads_as_the_slow_judge_says(
    tmp_path_factory, text, num_columns, quoting, block_bytes
):
    try:
        expected = judge(text, num_columns, quoting=quoting)
    except AssertionError:
        return  # A quote that is never closed: a rule of its own, tested below.
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    names = ",".join("abc"[:num_columns])
    path.write_bytes(f"{names}\n{text}".encode())
    rows, bad = read(
        path,
        Dialect(quoting=quoting),
        bad_rows=BadRows.skip,
        block_bytes=block_bytes,
    )
    sound = [
        (line + 1, tuple(field or None for field in fields))
        for line, fields in expected
        if fields is not None and not any("\0" in field for field in fields)
    ]
    assert rows == sound
    assert len(rows) + len(bad) == len(expected)


def write(tmp_path, content, name="rows.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_values_are_strings_and_null_values_are_missing_quoted_or_not(tmp_path):
    path = write(tmp_path, 'a,b\n07,\n"",x\nNA,"NA"\n')
    rows, _ = read(path, Dialect(null_values=("", "NA")))
    assert rows == [(2, ("07", None)), (3, (None, "x")), (4, (None, None))]


def test_columns_come_in_the_order_asked_for_and_optional_ones_where_they_are(tmp_path):
    path = write(tmp_path, "a,b,c\n1,2,3\n")
    chunks = list(
        read_delimited([path], PLAIN, columns=["c", "a"], optional=["b", "x"])
    )
    assert chunks[0].table.to_pydict() == {"c": ["3"], "a": ["1"], "b": ["2"]}
    assert chunks[0].table.schema.field("c").type == pa.string()
    assert chunks[0].rows.dtype == np.int64
    assert chunks[-1].progress == pytest.approx(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3\n", "line 3: the row has 1 columns where 2 must stand: it ends "
         "before column 'b'"),
        ("a,b\n1,2,3\n", "line 2: the row has 3 columns where 2 must stand: it goes "
         "on after the last column, 'b'"),
        ("a,b\n1,2\n\n3,4\n", "line 3: the row is blank where a row of 2 columns"),
        ('a,b\n"x\ny",2\n"z"q,1\n', "line 4: the row has text after the closing quote "
         "of column 1"),
        ('a,b\n1,2\n"3,4\n5,6\n', "line 3: the row opens a quote that is never closed"),
        (b"a,b\n1,2\n3,\xff\n", "line 3: the row has byte 0xff in column 2 \\('b'\\)"),
        (b"a,b\n1,\x00\n", "line 2: the row has a NUL byte in column 2 \\('b'\\)"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_file_line_and_column(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=f"rows.csv, {message}"):
        read(path)


def test_skipped_rows_are_kept_with_their_text_and_the_rest_is_read(tmp_path):
    path = write(tmp_path, 'a,b\n1,2\n3\n"4,5\n6,7\n')
    rows, bad = read(path, bad_rows=BadRows.skip)
    assert rows == [(2, ("1", "2")), (5, ("6", "7"))]
    assert [(b.row, b.text) for b in bad] == [(3, "3"), (4, '"4,5')]
    assert bad[0].file == str(path)
    assert "ends before column 'b'" in bad[0].reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "rows.csv must begin with column names or data, but the file is empty"),
        ("\n1,2\n", "rows.csv must begin with .*, but its first line is empty"),
        ("a,b,a\n", "line 1: column names must differ, but 'a' stands there more"),
        ('"a,b\n1,2\n', "line 1: a quote is opened and never closed"),
        (
            "a,b\r1,2\r",
            "must end its lines with LF or CR LF, but they end with CR alone",
        ),
        (b"a,\xff\n1,2\n", "line 1: column 2 has byte 0xff"),
        (
            "a,b\n".encode("utf-16"),
            "begins like UTF-16. Set data.table.encoding=utf-16",
        ),
        (b"PK\x03\x04rest", "it is a zip archive. Unpack it with unzip"),
    ],
)
def test_a_bad_header_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, content))


def test_a_header_alone_gives_no_rows(tmp_path):
    assert read(write(tmp_path, "a,b\n")) == ([], [])
    assert read(write(tmp_path, "a,b")) == ([], [])


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n")
    assert read(path, columns=["a", "b"])[0] == [(2, ("1", "2"))]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "shift_jis"])
def test_other_encodings_are_read_across_block_ends(tmp_path, encoding):
    word = "ソ表|é" if encoding == "shift_jis" else "Amélie"
    word = word.replace("é", "") if encoding == "shift_jis" else word
    path = write(tmp_path, ("a,b\n" + f"{word},1\n" * 5).encode(encoding))
    rows, _ = read(path, Dialect(encoding=encoding), block_bytes=3)
    assert rows == [(line, (word, "1")) for line in range(2, 7)]


def test_an_unknown_encoding_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.table\.encoding must be .* klingon"):
        read(write(tmp_path, "a\n1\n"), Dialect(encoding="klingon"))


@pytest.mark.parametrize("separator", ["::", "¦", "\t"])
def test_separators_of_several_bytes_are_exact(tmp_path, separator):
    lines = [["a", "b"], ["x:y", "1|2"], ["", "3"], ["\x1f", "4"], ["p", "q"]]
    path = write(tmp_path, "".join(separator.join(line) + "\n" for line in lines))
    rows, _ = read(path, Dialect(separator=separator, quoting=False), block_bytes=8)
    assert [values for _, values in rows] == [
        tuple(field or None for field in line) for line in lines[1:]
    ]


def test_gzip_is_found_by_its_content_and_members_are_joined(tmp_path):
    packed = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n")
    assert read(write(tmp_path, packed, "rows.csv"))[0] == [
        (2, ("1", "2")),
        (3, ("3", "4")),
    ]


def test_a_cut_or_damaged_gzip_file_is_named(tmp_path):
    packed = bytearray(gzip.compress(b"a,b\n" + b"1,2\n" * 1000))
    path = write(tmp_path, bytes(packed[:-12]), "short.csv.gz")
    with pytest.raises(DataError, match=r"short\.csv\.gz must be a whole gzip file"):
        read(path)
    packed[15] ^= 0xFF
    with pytest.raises(DataError, match=r"bad\.csv\.gz must be a sound gzip file"):
        read(write(tmp_path, bytes(packed), "bad.csv.gz"))


def test_files_may_order_their_columns_as_they_like_but_must_have_the_same(tmp_path):
    first = write(tmp_path, "a,b\n1,2\n", "one.csv")
    second = write(tmp_path, "b,a\n4,3\n", "two.csv")
    assert [values for _, values in read([first, second])[0]] == [
        ("1", "2"),
        ("3", "4"),
    ]
    third = write(tmp_path, "a,c\n1,2\n", "three.csv")
    with pytest.raises(
        DataError, match=r"three\.csv must have .* lacks 'b' and has 'c'"
    ):
        read([first, third])


def test_a_missing_column_is_explained(tmp_path):
    path = write(tmp_path, "clickd;user\n1;2\n")
    semicolon = Dialect(separator=";")
    with pytest.raises(DataError, match="Perhaps 'clicked' may be 'clickd'"):
        read(path, semicolon, columns=["clicked"])
    with pytest.raises(DataError, match=r"set data\.table\.separator=semicolon"):
        read(path, columns=["clickd", "user"])


def test_missing_columns_are_named_with_their_settings(tmp_path):
    path = write(tmp_path, "a,b\n1,2\n")
    keys = {"c": "data.label", "d": "data.dense_features.d.column"}
    with pytest.raises(DataError) as refused:
        read(path, columns=["c", "d", "a"], keys=keys)
    assert "'c' (data.label), 'd' (data.dense_features.d.column)" in str(refused.value)
    many = [f"c{number}" for number in range(40)]
    with pytest.raises(DataError, match=r"'c5', \.\.\., but it has not"):
        read(path, columns=many)


def test_given_names_stand_for_a_header_and_must_not_be_repeated_in_the_file(tmp_path):
    named = Dialect(column_names=("a", "b"))
    assert read(write(tmp_path, "1,2\n"), named)[0] == [(1, ("1", "2"))]
    with pytest.raises(DataError, match=r"Remove data\.table\.column_names"):
        read(write(tmp_path, "a,b\n1,2\n"), named)


def test_a_row_without_end_is_refused_at_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("dlrm.data.sources.blocks.MAX_RECORD_BYTES", 1000)
    path = write(tmp_path, 'a,b\n1,2\n"' + "3,4\n" * 10_000)
    with pytest.raises(DataError, match=r"rows\.csv, line 3: a row must end within"):
        read(path, block_bytes=100)


@pytest.mark.parametrize("kind", ["plain", "mark", "gzip", "latin-1", "no header"])
@pytest.mark.parametrize("ending", ["\n", "", "\n\n", "\r\n"])
def test_a_piece_in_another_process_reads_the_same_rows(tmp_path, kind, ending):
    lines = ["id,text", *(f"{n},{'é' * (n % 5)}{n}" for n in range(200))]
    names = None if kind != "no header" else ("id", "text")
    text = "\n".join(lines[0 if names is None else 1 :]) + ending
    encoding = "latin-1" if kind == "latin-1" else "utf-8"
    data = text.encode("utf-8-sig" if kind == "mark" else encoding)
    path = tmp_path / "rows.csv"
    path.write_bytes(gzip.compress(data) if kind == "gzip" else data)
    dialect = Dialect(encoding=encoding, column_names=names)
    pieces = list(delimited_pieces([path], dialect, block_bytes=300))
    assert len(pieces) > 3
    sent = [pickle.dumps(piece) for piece in pieces]
    ids = []
    for piece, data in zip(pieces, sent, strict=True):
        other = pickle.loads(data)
        assert other.digest() == piece.digest()
        (mine,), (theirs,) = piece.chunks(), other.chunks()
        assert theirs.table.equals(mine.table)
        assert theirs.rows.tolist() == mine.rows.tolist()
        ids += theirs.table["id"].to_pylist()
    assert ids == [str(n) for n in range(200)]
    # The text of a plain file is not sent along.
    is_sent = pieces[1].block.data in sent[1]
    assert is_sent == (kind in ("gzip", "latin-1"))


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("id\n" + "7\n" * 500)
    pieces = list(delimited_pieces([path], PLAIN, block_bytes=300))
    sent = pickle.dumps(pieces[-1])
    path.write_text("id\n7\n")
    with pytest.raises(DataError, match=r"rows\.csv must stay as it is"):
        pickle.loads(sent)
