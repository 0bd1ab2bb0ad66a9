"""The CRC-32 of bytes whose parts are known by theirs.

A CRC is a remainder of polynomials over GF(2), bits reversed: the one of x^0 is the
highest. Bytes that follow multiply what came before by a power of x.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def joined_crc32(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of the parts' bytes in order, from each one's CRC and size."""
    whole = 0
    for crc, size in parts:
        whole = _product(_power_of_x(8 * size), whole) ^ crc
    return whole


def _product(first: int, second: int) -> int:
    """Multiply two remainders."""
    product, bit = 0, _ONE
    while bit:
        if first & bit:
            product ^= second
        second = (second >> 1) ^ (_POLYNOMIAL if second & 1 else 0)
        bit >>= 1
    return product


@functools.lru_cache(maxsize=1024)
def _power_of_x(exponent: int) -> int:
    power, place = _ONE, 0
    while exponent >> place:
        if exponent >> place & 1:
            power = _product(_squared(place), power)
        place += 1
    return power


@functools.cache
def _squared(times: int) -> int:
    """Return x squared so many times."""
    if times == 0:
        return _ONE >> 1
    root = _squared(times - 1)
    return _product(root, root)
