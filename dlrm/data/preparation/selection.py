"""The value of a rank among numbers that are read in parts, never all in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_BITS = 16
_SIGN = np.uint64(1 << 63)


def value_of_rank(parts: Iterable[np.ndarray], rank: int) -> float:
    """Return what stands at place ``rank`` of all float64 values in order.

    ``parts`` are looped over four times: each loop finds 16 more bits of the value by
    counting (radix selection). None of the values is NaN.

    Raises:
        IndexError: There are not so many values.
    """
    prefix = np.uint64(0)
    for shift in range(64 - _BITS, -1, -_BITS):
        counts = np.zeros(1 << _BITS, dtype=np.int64)
        for values in parts:
            keys = _ordered_bits(values)
            if shift + _BITS < 64:
                keys = keys[keys >> np.uint64(shift + _BITS) == prefix]
            digits = (keys >> np.uint64(shift)) & np.uint64((1 << _BITS) - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=counts.size)
        ends = np.cumsum(counts)
        if rank >= ends[-1]:
            raise IndexError(f"There is no value of rank {rank}.")
        digit = int(np.searchsorted(ends, rank, side="right"))
        rank -= int(ends[digit] - counts[digit])
        prefix = np.uint64((int(prefix) << _BITS) | digit)
    return _value_of_bits(prefix)


def _ordered_bits(values: np.ndarray) -> np.ndarray:
    """Return uint64 numbers that are ordered as the values are."""
    # Adding zero makes -0.0, which equals 0.0, have the same bits.
    bits = (values.astype(np.float64) + 0.0).view(np.uint64)
    ordered: np.ndarray = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return ordered


def _value_of_bits(bits: np.uint64) -> float:
    own = bits ^ _SIGN if bits & _SIGN else ~bits
    return float(np.array([own], dtype=np.uint64).view(np.float64)[0])
