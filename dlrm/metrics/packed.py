"""An exact sort of (float32 score, label) pairs as single 32-bit integers.

The bits of a float32 >= 0 grow with its value, those of one < 0 fall with it. So the
rows are parted by sign; within a part the sign bit says nothing, and its place is free
for the label. Each part is then sorted as plain ``uint32``, which is several times as
fast as sorting an index, and nothing is lost: score and label can both be read back.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

_ROWS_PER_BLOCK = 1 << 18
_PARALLEL_ROWS = 1 << 20
_LABEL = np.uint32(1)
_SCORE = np.uint32(0xFFFFFFFE)
_SIGN = np.uint32(0x80000000)


@dataclass(frozen=True, slots=True)
class PackedScores:
    """Ascending uint32 keys of the rows below zero, and of the others.

    Bit 0 is the label, so within a tie the negatives come first; bits 1 to 31 are the
    score's magnitude, inverted below zero.
    """

    below_zero: np.ndarray
    others: np.ndarray

    def scores(self) -> np.ndarray:
        """Return all scores, ascending, float32."""
        below = (~self.below_zero >> _LABEL) | _SIGN
        return np.concatenate([below, self.others >> _LABEL]).view(np.float32)


def sort_packed(labels: np.ndarray, scores: np.ndarray) -> PackedScores:
    """Sort rows by score; ``labels`` are bool, ``scores`` float32 without NaN."""
    num_below = int(np.count_nonzero(scores < 0))
    below = np.empty(num_below, dtype=np.uint32)
    others = np.empty(len(scores) - num_below, dtype=np.uint32)
    end_below = end_others = 0
    for start in range(0, len(scores), _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        values = np.ascontiguousarray(scores[block], dtype=np.float32)
        # Shifted left by one, the sign bit falls out: -0.0 becomes 0.0, as a tie must.
        keys = values.view(np.uint32) << _LABEL
        negative = values < 0
        np.invert(keys, out=keys, where=negative)
        keys &= _SCORE
        keys |= labels[block]
        first, second = keys[negative], keys[~negative]
        below[end_below : end_below + len(first)] = first
        others[end_others : end_others + len(second)] = second
        end_below, end_others = end_below + len(first), end_others + len(second)
    _sort(below)
    _sort(others)
    return PackedScores(below, others)


def _sort(keys: np.ndarray) -> None:
    """Sort in place, the lower and the upper half at the same time."""
    if len(keys) < _PARALLEL_ROWS:
        keys.sort()
        return
    middle = len(keys) // 2
    keys.partition(middle)
    # numpy sorts without the interpreter's lock, so that the threads run at once.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(np.ndarray.sort, (keys[:middle], keys[middle:])))


def packed_auc(packed: PackedScores) -> float:
    """Return the AUC in whole-number arithmetic; both classes must occur."""
    low, high = _wins(packed.below_zero), _wins(packed.others)
    positives = low.num_positives + high.num_positives
    negatives = low.num_negatives + high.num_negatives
    # Every positive at or above zero beats every negative below it.
    doubled = low.doubled + high.doubled + 2 * high.num_positives * low.num_negatives
    return doubled / (2 * positives * negatives)


@dataclass(frozen=True, slots=True)
class _Wins:
    """Twice the (positive, negative) pairs a part orders rightly, ties one half."""

    doubled: int
    num_positives: int
    num_negatives: int


def _wins(keys: np.ndarray) -> _Wins:
    places = np.flatnonzero(keys & _LABEL)
    num_positives = len(places)
    # The j-th positive, standing at place i, has i - j negatives before it: those of
    # its own tie too, because they sort first; each of these was half a win too much.
    before = int(places.sum()) - num_positives * (num_positives - 1) // 2
    doubled = 2 * before - _tied_pairs(keys)
    return _Wins(doubled, num_positives, len(keys) - num_positives)


def _tied_pairs(keys: np.ndarray) -> int:
    """Count pairs of a positive and a negative with the same score."""
    # Neighbours that differ in the label bit alone are the seam of a mixed tie.
    seams = np.flatnonzero((keys[1:] ^ keys[:-1]) == 1)
    first = np.searchsorted(keys, keys[seams], side="left")
    end = np.searchsorted(keys, keys[seams + 1], side="right")
    return int(((seams + 1 - first) * (end - seams - 1)).sum())
