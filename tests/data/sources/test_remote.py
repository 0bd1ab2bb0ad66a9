"""Remote sources, against fsspec's memory and a web server of this machine."""

from __future__ import annotations

import gzip
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlrm.config.data import DataConfig, SourceFormat, Split
from dlrm.config.errors import ConfigError, DataError, InstallationError
from dlrm.config.features import SparseFeature
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.sources import remote_content, remote_fetch
from dlrm.data.sources.files import InputFile, file_identity, resolve_files
from dlrm.data.sources.parquet import read_parquet
from dlrm.data.sources.remote_cache import RemoteCache
from dlrm.data.sources.table import files_by_split
from tests.data.sources.web import Web, serving

BYTES = np.random.default_rng(0).bytes(3 << 20)
ROWS = b"label,c\n" + b"0,aaaa\n1,aaaa\n1,bbbb\n0,bbbb\n" * 45_000
"""More than a head."""

needs_web = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("aiohttp"),
    reason="http(s) URLs need aiohttp",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLRM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_fetch, "FIRST_PAUSE_SECONDS", 0.001)
    return tmp_path / "cache" / "remote"


@pytest.fixture
def bucket() -> Iterator[str]:
    """Return the URL of an empty folder in memory."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield "memory://bucket"
    memory.store.clear()


def put(url: str, data: bytes) -> None:
    import fsspec

    with fsspec.open(url, "wb") as file:
        file.write(data)


def forget() -> None:
    """Be like a new process: only what lies in the cache is known."""
    remote_content._CONTENTS.clear()


def read(path: Path) -> bytes:
    with InputFile(path) as file:
        return b"".join(iter(lambda: file.read(1 << 20), b""))


def copies(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.data"))


def test_a_folder_and_a_glob_give_their_visible_files_in_natural_order(bucket: str):
    for name in ("k=1/day_10.csv", "k=1/day_2.csv", "k=1/_SUCCESS", "k=2/day_1.csv"):
        put(f"{bucket}/{name}", b"x")
    listed = [str(f) for f in resolve_files(f"{bucket}/k=1")]
    assert [name.rpartition("/")[2] for name in listed] == ["day_2.csv", "day_10.csv"]
    found = resolve_files(f"{bucket}/k=*/day_*.csv")
    assert [f.name for f in found] == ["day_2.csv", "day_10.csv", "day_1.csv"]
    assert all(str(f).startswith("memory://") for f in found)
    with pytest.raises(DataError, match=r"match at least one file, but .*none\.csv"):
        resolve_files(f"{bucket}/*none.csv")


def test_a_file_that_is_not_there_is_named(bucket: str):
    with pytest.raises(DataError, match=r"memory://bucket/k=1/p\.csv is not, or"):
        resolve_files(f"{bucket}/k=1/p.csv")


def test_other_kinds_of_urls_are_refused():
    with pytest.raises(DataError, match=r"begin with s3://.*it is ftp://b/x\.csv"):
        resolve_files("ftp://b/x.csv")


@pytest.mark.parametrize(
    ("url", "package"),
    [("s3://b/x.csv", "s3fs"), ("gs://b/x", "gcsfs"), ("https://h/x", "aiohttp")],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    url: str, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"needs the package {package}.*pip install 'dlrm\[remote\]'"
    with pytest.raises(InstallationError, match=message):
        resolve_files(url)


def test_bytes_are_those_of_the_file_and_are_fetched_once(bucket: str, cache: Path):
    put(f"{bucket}/x.bin", BYTES)
    (path,) = resolve_files(f"{bucket}/x.bin")
    assert read(path) == BYTES
    (copy,) = copies(cache)
    assert Path(os.fspath(path)) == copy
    assert copy.read_bytes() == BYTES
    forget()
    copied_at = copy.stat().st_ino
    assert read(path) == BYTES
    assert copies(cache)[0].stat().st_ino == copied_at


def test_gzip_streams_too(bucket: str):
    put(f"{bucket}/x.gz", gzip.compress(BYTES))
    assert read(resolve_files(f"{bucket}/x.gz")[0]) == BYTES


def test_a_damaged_or_half_copy_is_brought_again(bucket: str, cache: Path):
    put(f"{bucket}/x.bin", BYTES)
    (path,) = resolve_files(f"{bucket}/x.bin")
    for damaged in (BYTES[:-1] + b"?", BYTES[:100]):
        assert os.fspath(path)
        copies(cache)[0].write_bytes(damaged)
        forget()
        assert read(path) == BYTES


def test_what_a_killed_process_left_is_removed(bucket: str, cache: Path):
    cache.mkdir(parents=True)
    left = cache / ".deadbeef.123.part"
    left.write_bytes(b"half")
    put(f"{bucket}/x.bin", BYTES)
    assert read(resolve_files(f"{bucket}/x.bin")[0]) == BYTES
    assert not left.exists()


def test_copies_stay_within_their_limit(
    bucket: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DLRM_CACHE_GB", str(2.5 * len(BYTES) / 1e9))
    for name in "abc":
        put(f"{bucket}/{name}", BYTES + name.encode())
    kept = [os.fspath(f) for f in resolve_files(f"{bucket}/?")]
    assert [str(p) for p in copies(cache)] == sorted(kept[1:])


def test_a_copy_that_left_the_cache_while_it_was_read_is_brought_again(
    bucket: str, cache: Path
):
    put(f"{bucket}/x.bin", BYTES)
    (path,) = resolve_files(f"{bucket}/x.bin")
    assert read(path) == BYTES
    copies(cache)[0].unlink()
    assert read(path) == BYTES
    copies(cache)[0].unlink()
    assert Path(os.fspath(path)).read_bytes() == BYTES


@pytest.mark.parametrize("text", ["much", "-1", "inf"])
def test_a_limit_that_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DLRM_CACHE_GB", text)
    with pytest.raises(ConfigError, match=f"DLRM_CACHE_GB must be .*it is {text}"):
        RemoteCache.of_environment()


def test_a_remote_path_travels_to_other_processes(bucket: str):
    put(f"{bucket}/x.csv", b"a")
    (path,) = resolve_files(f"{bucket}/x.csv")
    there = pickle.loads(pickle.dumps(path))
    assert there == path
    assert str(there) == str(path)
    assert read(there) == b"a"


def table_config(tmp_path: Path, source: str) -> DataConfig:
    return DataConfig(
        name="clicks",
        format=SourceFormat.table,
        source=source,
        prepared=str(tmp_path / "prepared"),
        label="label",
        split=Split.random,
        sparse_features={"c": SparseFeature(min_frequency=1)},
    )


def test_a_remote_source_prepares_and_is_known_again_by_what_its_server_says(
    bucket: str, tmp_path: Path, cache: Path
):
    put(f"{bucket}/k=1/part.csv", ROWS)
    data = table_config(tmp_path, f"{bucket}/k=1/part.csv")
    folder = prepare_dataset(data)
    (copy,) = copies(cache)
    copy.unlink()
    forget()
    assert prepare_dataset(data) == folder
    assert not copies(cache), "the identity alone must not bring the file"
    put(f"{bucket}/k=1/part.csv", ROWS + b"1,dddd\n")
    assert prepare_dataset(data) != folder


def test_files_of_splits_lie_under_a_remote_folder(bucket: str, tmp_path: Path):
    put(f"{bucket}/a.csv", b"x")
    put("memory://other/b.csv", b"x")
    data = table_config(tmp_path, bucket)
    data.split = Split.files
    data.files = {"train": ["a.csv"], "test": ["memory://other/b.csv"]}
    found = {str(path): split for path, split in files_by_split(data).items()}
    assert found == {f"{bucket}/a.csv": "train", "memory://other/b.csv": "test"}


def test_parquet_rows_come_from_a_remote_file(bucket: str):
    table = pa.table({"a": np.arange(100_000), "b": np.arange(100_000) / 7})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=10_000)
    put(f"{bucket}/x.parquet", sink.getvalue().to_pybytes())
    chunks = list(read_parquet(resolve_files(f"{bucket}/x.parquet")))
    assert pa.concat_tables([chunk.table for chunk in chunks]).equals(table)


@needs_web
@pytest.mark.parametrize("ranges", [True, False])
def test_dropped_connections_are_taken_up_again(ranges: bool):
    web = Web({"/x.bin": BYTES}, ranges=ranges, drops_after=1 << 20, num_drops=3)
    with serving(web):
        assert read(resolve_files(f"{web.url}/x.bin")[0]) == BYTES
    if ranges:
        assert web.sent < 2 * len(BYTES)


@needs_web
def test_a_file_that_never_comes_whole_is_named_and_not_kept(cache: Path):
    with serving(Web({"/x.bin": BYTES}, ranges=False, drops_after=1000)) as web:
        (path,) = resolve_files(f"{web.url}/x.bin")
        with pytest.raises(
            DataError, match=rf"{web.url}/x\.bin must .* failed 5 times"
        ):
            read(path)
    assert list(cache.iterdir()) == []


@needs_web
def test_a_header_is_read_without_bringing_the_file():
    with serving(Web({"/x.bin": BYTES})) as web:
        (path,) = resolve_files(f"{web.url}/x.bin")
        with InputFile(path) as file:
            assert file.read(1000) == BYTES[:1000]
    assert [asked for _, asked in web.requests] == [f"bytes=0-{(1 << 20) - 1}"]


@needs_web
def test_a_missing_page_and_a_silent_server_are_told_with_their_reason():
    with serving(Web({})) as web:
        with pytest.raises(DataError, match=r"/x\.csv is not, or .*404"):
            resolve_files(f"{web.url}/x.csv")
        url = web.url
    with pytest.raises(DataError, match="cannot be reached.*Cannot connect"):
        resolve_files(f"{url}/x.csv")


@needs_web
def test_a_file_that_changes_while_it_is_read_is_refused():
    web = Web({"/x.bin": BYTES}, drops_after=2 << 20, num_drops=1)
    with serving(web):
        (path,) = resolve_files(f"{web.url}/x.bin")
        web.files["/x.bin"] = BYTES[::-1]
        with pytest.raises(DataError, match="must stay as it is while it is read"):
            read(path)


@needs_web
def test_a_file_without_version_is_never_taken_from_the_cache():
    with serving(Web({"/x.bin": b"a,b\n1,2\n"}, etags=False)) as web:
        (path,) = resolve_files(f"{web.url}/x.bin")
        before = file_identity(path)
        assert read(path) == b"a,b\n1,2\n"
        web.files["/x.bin"] = b"a,b\n1,3\n"
        forget()
        (path,) = resolve_files(f"{web.url}/x.bin")
        assert read(path) == b"a,b\n1,3\n"
        assert file_identity(path) != before


@needs_web
def test_a_listing_is_not_asked_of_a_web_server():
    for url in ("http://h/day_*.csv", "http://h/folder/"):
        with pytest.raises(DataError, match="web servers have no listing"):
            resolve_files(url)


def test_threads_share_one_copy_that_is_still_on_its_way(
    bucket: str, monkeypatch: pytest.MonkeyPatch
):
    put(f"{bucket}/x.bin", BYTES)
    (path,) = resolve_files(f"{bucket}/x.bin")
    times = []
    fetch = remote_content.fetch

    def counted(file: remote_content.RemoteFile) -> Iterator[bytes]:
        times.append(file)
        return fetch(file)

    monkeypatch.setattr(remote_content, "fetch", counted)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(read(path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BYTES] * 4
    assert len(times) == 1
