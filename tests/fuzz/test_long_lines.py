"""Lines of 10 MB, however they are filled, are read or refused in seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dlrm.config.data import BadRows, DataConfig, SourceFormat
from dlrm.config.features import SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.data.sources import open_source
from dlrm.data.sources.delimited import read_delimited
from dlrm.data.sources.dialect import Dialect
from tests.fuzz.findings import Refused, answer
from tests.fuzz.targets.delimited import rows_of
from tests.fuzz.targets.fasttext import SPACES

SIZE = 10_000_000
SECONDS = 20.0
FILLINGS = {
    "letters": b"a" * SIZE,
    "quoted fields": b'"a",' * (SIZE // 4),
    "quotes": b'"' * SIZE,
    "pairs of quotes": b'""' * (SIZE // 2) + b'"',
    "unclosed quote": b'"' + b"a," * (SIZE // 2),
    "separators": b"," * SIZE,
    "NUL bytes": b"\0" * SIZE,
    "carriage returns": b"\r" * SIZE,
    "open quotes on many lines": b'"a\n' * (SIZE // 30),
    "triple quotes on many lines": b'"""\n' * (SIZE // 40),
}


@pytest.mark.slow
@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("place", ["row", "header"])
def test_a_line_of_ten_megabytes_is_read_or_named_in_seconds(
    tmp_path: Path, filling: str, place: str
):
    path = tmp_path / "rows.csv"
    head = b"" if place == "header" else b"a,b\n1,2\n"
    path.write_bytes(head + FILLINGS[filling] + b"\n3,4\n")
    began = time.monotonic()
    found = answer(
        lambda: rows_of(read_delimited([path], Dialect(), bad_rows=BadRows.skip))
    )
    assert time.monotonic() - began < SECONDS
    if isinstance(found, Refused):
        _check_message(found, path)
    elif place == "row":
        rows, bad = found
        assert rows[0] == (2, ("1", "2"))
        assert 3 in [*(line for line, _ in rows), *(row.row for row in bad)]
        assert all(len(row.reason) < 2_000 for row in bad)


def _check_message(refused: Refused, path: Path) -> None:
    assert str(path) in refused.message
    assert len(refused.message) < 3_000, "a message that nobody can read"


@pytest.mark.slow
@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("kind", ["criteo", "fasttext"])
def test_other_text_of_ten_megabyte_lines_is_read_or_named_in_seconds(
    tmp_path: Path, kind: str, filling: str
):
    path = tmp_path / "rows.txt"
    path.write_bytes(FILLINGS[filling] + b"\n")
    began = time.monotonic()
    found = answer(lambda: list(open_source(_config(kind, path)).chunks()))
    assert time.monotonic() - began < SECONDS
    if isinstance(found, Refused):
        _check_message(found, path)
    else:
        # A line without a word is no row of fastText's.
        lines = path.read_bytes().split(b"\n")
        with_words = sum(bool(line.strip(SPACES)) for line in lines)
        assert sum(chunk.table.num_rows for chunk in found) == with_words
        assert kind == "fasttext", "a line of this length is none of Criteo's"


def _config(kind: str, path: Path) -> DataConfig:
    if kind == "criteo":
        return DataConfig(
            name="c", format=SourceFormat.criteo_kaggle, source=str(path),
            sparse_features={"C1": SparseFeature()},
        )  # fmt: skip
    return DataConfig(
        name="f", format=SourceFormat.fasttext, source=str(path),
        label_kind=LabelKind.multilabel,
        sparse_features={"text": SparseFeature(multi_hot=True)},
    )  # fmt: skip
