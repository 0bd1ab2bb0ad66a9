"""CRC-32 by native code is zlib's, whatever the buffer and however it is split."""

from __future__ import annotations

import itertools
import mmap
import types
import zlib
from pathlib import Path

import numpy as np
import pytest

from dlrm.kernels import checksum
from dlrm.kernels.checksum import crc32, crc32_of_file, crc32_of_part
from dlrm.kernels.text_library import loaded

BYTES = np.random.default_rng(0).bytes(1 << 20)
LONG = 40_001
"""More bytes than are left to zlib, and no multiple of what native code takes."""


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have native code take every buffer, however short."""
    library = loaded()
    if library is None or not library.dlrm_crc32_is_fast():
        pytest.skip("no native code for CRC-32 here")
    monkeypatch.setattr(checksum, "_NATIVE_BYTES", 0)
    monkeypatch.setattr(checksum, "zlib", types.SimpleNamespace())


@pytest.mark.usefixtures("native")
def test_short_buffers_of_every_length_and_every_alignment():
    view = memoryview(BYTES)
    for start, length in itertools.product(range(16), range(1101)):
        part = view[start : start + length]
        assert crc32(part) == zlib.crc32(part), (start, length)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("value", [1, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 79, 200, LONG])
def test_a_value_is_continued(value: int, length: int):
    assert crc32(BYTES[:length], value) == zlib.crc32(BYTES[:length], value)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
def test_bytes_that_are_all_alike(byte: bytes):
    for length in (64, 65, 127, 128, LONG):
        assert crc32(byte * length) == zlib.crc32(byte * length)


def test_any_split_gives_the_value_of_the_whole():
    generator = np.random.default_rng(1)
    for _ in range(20):
        ends = np.sort(generator.integers(0, len(BYTES) + 1, size=5)).tolist()
        value = 0
        for start, end in zip([0, *ends], [*ends, len(BYTES)], strict=True):
            value = crc32(memoryview(BYTES)[start:end], value)
        assert value == zlib.crc32(BYTES)


@pytest.mark.parametrize("length", [0, 100, LONG])
@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)]
)
def test_buffers_of_every_kind(kind: type, length: int):
    assert crc32(kind(BYTES[:length])) == zlib.crc32(BYTES[:length])


def test_an_array_is_its_bytes():
    numbers = np.frombuffer(BYTES, np.int32).reshape(64, -1)
    assert not numbers.flags.writeable
    assert crc32(numbers) == zlib.crc32(BYTES)
    assert crc32(memoryview(numbers)) == zlib.crc32(BYTES)
    assert crc32(numbers[3:40]) == zlib.crc32(numbers[3:40].tobytes())


def test_a_mapped_file_can_be_closed_afterwards(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(BYTES)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        assert crc32(view[5:LONG]) == zlib.crc32(BYTES[5:LONG])


@pytest.mark.parametrize("length", [20, 2 * LONG])
def test_what_is_not_contiguous_is_refused(length: int):
    with pytest.raises(BufferError, match="not C-contiguous"):
        crc32(memoryview(BYTES)[:length:2])
    with pytest.raises(ValueError, match="not C-contiguous"):
        crc32(np.frombuffer(BYTES, np.uint8)[:length:2])


@pytest.mark.parametrize(
    "library", [None, types.SimpleNamespace(dlrm_crc32_is_fast=lambda: 0)]
)
def test_without_library_or_instruction_zlib_does_it(
    monkeypatch: pytest.MonkeyPatch, library: object
):
    monkeypatch.setattr(checksum, "loaded", lambda: library)
    for length in (0, 100, LONG):
        assert crc32(BYTES[:length], 7) == zlib.crc32(BYTES[:length], 7)
    with pytest.raises(ValueError, match="not C-contiguous"):
        crc32(np.frombuffer(BYTES, np.uint8)[: 2 * LONG : 2])


@pytest.mark.parametrize("length", [0, 1, 1000, len(BYTES)])
def test_files_and_parts_of_them(tmp_path: Path, length: int, monkeypatch):
    monkeypatch.setattr(checksum, "_READ_BYTES", 999)
    path = tmp_path / "file"
    path.write_bytes(BYTES[:length])
    assert crc32_of_file(path) == zlib.crc32(BYTES[:length])
    for start, stop in ((0, 0), (0, length), (length // 3, length // 2)):
        expected = zlib.crc32(BYTES[start:stop])
        assert crc32_of_part(path, start, stop - start) == expected
    assert crc32_of_part(path, length // 2, length - length // 2 + 1) is None
