from __future__ import annotations

import random
import zlib

import pytest

from dlrm.data.storage.checksums import joined_crc32


@pytest.mark.parametrize(
    "sizes", [[], [0], [1], [0, 3, 0], [1, 1, 1], [7, 70_001, 0, 5], [1 << 16] * 5]
)
def test_the_crc_of_a_whole_comes_of_its_parts(sizes):
    generator = random.Random(len(sizes))
    parts = [generator.randbytes(size) for size in sizes]
    found = joined_crc32((zlib.crc32(part), len(part)) for part in parts)
    assert found == zlib.crc32(b"".join(parts))


def test_parts_in_another_order_are_another_whole():
    parts = [(zlib.crc32(part), len(part)) for part in (b"ab", b"c")]
    assert joined_crc32(parts) == zlib.crc32(b"abc")
    assert joined_crc32(reversed(parts)) == zlib.crc32(b"cab")


def test_parts_of_many_gigabytes_are_joined_in_no_time():
    zeros, crc = bytes(1 << 20), 0
    for _ in range(64):
        crc = zlib.crc32(zeros, crc)
    whole = joined_crc32([(crc, 1 << 26)] * 1024)
    halves = joined_crc32([(joined_crc32([(crc, 1 << 26)] * 512), 1 << 35)] * 2)
    assert whole == halves
