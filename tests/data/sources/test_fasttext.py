from __future__ import annotations

import gzip

import pytest

from dlrm.config.data import BadRows, DataConfig, FasttextSource, SourceFormat, Split
from dlrm.config.errors import DataError
from dlrm.config.labels import LabelKind
from dlrm.data.sources import fasttext
from dlrm.data.sources.fasttext import FasttextFiles

LINES = (
    b"__label__sauce __label__cheese How much starch?\n"
    b"words\tfirst __label__late\x0bmore\r\n"
    b"\n"
    b"__label__only\n"
    b"no label at all"
)


def config(source, **settings):
    return DataConfig(
        name="text",
        format=SourceFormat.fasttext,
        source=str(source),
        label_kind=LabelKind.multilabel,
        **settings,
    )


def read(data, *, with_labels=True):
    chunks = list(FasttextFiles(data, with_labels=with_labels).chunks())
    rows = [row for chunk in chunks for row in chunk.table.to_pylist()]
    lines = [line for chunk in chunks for line in chunk.rows.tolist()]
    return [
        (line, row["label"], row["text"]) for line, row in zip(lines, rows, strict=True)
    ], chunks


def test_labels_are_words_with_the_prefix_wherever_they_stand(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(LINES)
    rows, _ = read(config(path))
    assert rows == [
        (1, ["sauce", "cheese"], "How much starch?"),
        (2, ["late"], "words first more"),
        (4, ["only"], ""),
        (5, [], "no label at all"),
    ]


def test_rows_to_be_scored_are_one_a_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(LINES)
    rows, _ = read(config(path), with_labels=False)
    assert [line for line, _, _ in rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_rows_do_not_hang_on_where_blocks_end(tmp_path, monkeypatch, block):
    path = tmp_path / "lines.txt.gz"
    path.write_bytes(gzip.compress(LINES))
    whole, _ = read(config(path))
    monkeypatch.setattr(fasttext, "BLOCK_BYTES", block)
    rows, chunks = read(config(path))
    assert rows == whole
    assert chunks[-1].progress == 1.0


def test_another_prefix_may_mark_labels(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("#a b c\n")
    rows, _ = read(config(path, fasttext=FasttextSource(label_prefix="#")))
    assert rows == [(1, ["a"], "b c")]


def test_a_line_that_is_no_utf8_is_named_or_left_out(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(b"__label__a fine\n__label__b \xff\n")
    with pytest.raises(DataError, match=r"lines.txt, line 2: .* byte 12 is not"):
        read(config(path))
    rows, chunks = read(config(path, bad_rows=BadRows.skip))
    assert [line for line, _, _ in rows] == [1]
    assert [bad.row for bad in chunks[0].quarantined] == [2]


def test_files_may_be_listed_by_split(tmp_path):
    (tmp_path / "a.txt").write_text("__label__x one\n")
    (tmp_path / "b.txt").write_text("__label__y two\n")
    files = {"train": ["a.txt"], "test": ["b.txt"]}
    _, chunks = read(config(tmp_path, split=Split.files, files=files))
    assert [chunk.split for chunk in chunks] == ["train", "test"]
