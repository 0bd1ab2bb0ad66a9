"""Floats as whole numbers of the same order, in as few bits as they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dlrm.metrics.blocks import blocks, for_each

_MOST_BITS = 62
"""Leaves a label its bit, and differences of codes their sign."""


@dataclass(frozen=True, slots=True)
class FloatOrder:
    """A map of given floats to whole numbers; it keeps order and ties, and turns back.

    A float's bits without the sign are a whole number that grows with its magnitude.
    Counted from the least magnitude that occurs they are far smaller than their type:
    float32 logits between 1e-18 and 40 need 29 bits and a sign. -0.0 becomes 0, as a
    tie with 0.0 must; infinity comes next after the greatest finite magnitude.
    """

    dtype: np.dtype
    least: int
    """Bits of the least magnitude above zero."""
    most: int
    """Bits of the greatest finite magnitude; less than ``least`` where there is none.
    """

    @property
    def greatest(self) -> int:
        """Return the code of infinity, which no code exceeds in size."""
        return self.most - self.least + 2

    @property
    def num_bits(self) -> int:
        """Return how many bits a code takes, its sign included."""
        return self.greatest.bit_length() + 1

    def encode(self, scores: np.ndarray) -> np.ndarray:
        """Return the codes, int32 of float32 and int64 of float64."""
        bits = _bits(scores)
        sign = bits >> (8 * bits.itemsize - 1)
        codes: np.ndarray = bits & np.iinfo(bits.dtype).max
        codes -= self.least - 1
        np.clip(codes, 0, self.greatest, out=codes)
        codes ^= sign
        codes -= sign
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the floats of whole-number codes."""
        signed = codes.astype(f"i{self.dtype.itemsize}")
        sizes = np.abs(signed)
        bits = np.where(sizes > 0, sizes + (self.least - 1), 0)
        floats = bits.astype(signed.dtype).view(self.dtype)
        floats[sizes == self.greatest] = np.inf
        return np.where(signed < 0, -floats, floats)


@dataclass(frozen=True, slots=True)
class RankOrder:
    """The same by ranks, for float64 that differ by more than 300 powers of ten."""

    values: np.ndarray
    """Distinct values, ascending."""

    @property
    def greatest(self) -> int:
        """Return the greatest code; the least is 0."""
        return len(self.values)

    @property
    def num_bits(self) -> int:
        """Return how many bits a code takes, a sign included."""
        return self.greatest.bit_length() + 1

    def encode(self, scores: np.ndarray) -> np.ndarray:
        """Return each value's rank from 0, int64."""
        return np.searchsorted(self.values, scores)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the values of ranks."""
        found: np.ndarray = self.values[codes]
        return found


Order: TypeAlias = FloatOrder | RankOrder


def order_of(scores: np.ndarray) -> Order:
    """Return an order of at most 62 bits, for float32 or float64 without NaN."""
    dtype = scores.dtype
    ends = for_each(lambda block: _ends(scores[block]), blocks(len(scores)))
    least = min((low for low, _ in ends), default=1)
    most = max((high for _, high in ends), default=0)
    order = FloatOrder(dtype, least, max(most, least - 1))
    return order if order.num_bits <= _MOST_BITS else RankOrder(np.unique(scores))


def in_float32(scores: np.ndarray) -> np.ndarray:
    """Return scores as float32 where that loses nothing, else as they are.

    Logits of a float32 model that were widened since sort twice as fast narrowed.
    """
    if scores.dtype == np.float32:
        return scores
    narrow = np.empty(len(scores), dtype=np.float32)
    with np.errstate(over="ignore"):
        for block in blocks(len(scores)):
            narrow[block] = scores[block]
            if not np.array_equal(narrow[block], scores[block]):
                return scores
    return narrow


def _bits(scores: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(scores).view(f"i{scores.dtype.itemsize}")


def _ends(scores: np.ndarray) -> tuple[int, int]:
    """Return the bits of the least magnitude above zero and of the greatest finite."""
    bits = _bits(scores)
    sizes = bits & np.iinfo(bits.dtype).max
    infinity = int(np.array(np.inf, scores.dtype).view(bits.dtype))
    most = int(sizes.max())
    if most >= infinity:
        most = int(sizes.max(where=sizes < infinity, initial=0))
    # As an unsigned number zero less one is the greatest of all.
    sizes -= 1
    least = int(sizes.view(f"u{bits.itemsize}").min()) + 1
    return min(least, infinity), most
