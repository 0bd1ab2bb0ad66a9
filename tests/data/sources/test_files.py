from __future__ import annotations

import os

import pytest

from dlrm.config.errors import DataError
from dlrm.data.sources.files import file_identity, resolve_files


@pytest.fixture
def folder(tmp_path):
    for name in ("day_10.gz", "day_2.gz", "day_1.gz", ".hidden", "_SUCCESS"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "below").mkdir()
    return tmp_path


def names(files):
    return [path.name for path in files]


def test_a_folder_gives_its_visible_files_in_natural_order(folder):
    assert names(resolve_files(str(folder))) == ["day_1.gz", "day_2.gz", "day_10.gz"]


def test_globs_and_parts_keep_their_order_and_no_file_comes_twice(folder):
    source = f"{folder}/day_10.gz; {folder}/day_*.gz"
    assert names(resolve_files(source)) == ["day_10.gz", "day_1.gz", "day_2.gz"]


def test_a_name_that_looks_like_a_glob_is_taken_literally_where_it_exists(folder):
    (folder / "a[1].csv").write_text("x")
    assert names(resolve_files(f"{folder}/a[1].csv")) == ["a[1].csv"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("day_3.gz", "does not exist. In .* there is day_"),
        (
            "no/where/x.csv",
            "does not exist. The folder .* holds .hidden, _SUCCESS, below",
        ),
        ("*.parquet", "matches none"),
        ("below", "the folder .*below has none"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(folder, part, message):
    with pytest.raises(DataError, match=message):
        resolve_files(f"{folder}/{part}")


def test_what_can_be_read_but_once_is_refused(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"read more than once, but .*pipe is a pipe\."):
        resolve_files(str(pipe))
    with pytest.raises(DataError, match=r"input must name files.*/dev/null is none\."):
        resolve_files("/dev/null", key="input")


def test_an_unset_source_is_refused():
    with pytest.raises(DataError, match=r"it is not set. Add data\.source=PATH"):
        resolve_files(None)


def test_identity_changes_with_either_end_and_with_the_time_of_change(tmp_path):
    path = tmp_path / "big"
    data = bytearray(3 << 20)
    seen = set()
    for at in (0, -1):
        data[at] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
        seen.add(str(file_identity(path)))
    os.utime(path, ns=(2, 2))
    seen.add(str(file_identity(path)))
    assert len(seen) == 3
    assert file_identity(path) == file_identity(path)
