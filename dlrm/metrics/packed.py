"""An exact sort of rows as plain whole numbers, score, label and weight in one.

Sorting whole numbers in place is several times as fast as sorting an index and
gathering by it, and nothing is lost: all that was packed can be read back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.blocks import (
    blocks,
    cut_between_ties,
    for_each,
    sort_in_place,
    tie_starts,
)
from dlrm.metrics.float_order import Order, in_float32, order_of


@dataclass(frozen=True, slots=True)
class PackedScores:
    """Ascending keys of unweighted rows: a score's code, and the label as lowest bit.

    Within a tie the negatives come first. int32 where that is wide enough, else int64.
    """

    keys: np.ndarray
    order: Order

    def scores(self) -> np.ndarray:
        """Return all scores, ascending."""
        return self.order.decode(self.keys >> 1)

    def parts(self) -> list[slice]:
        """Return slices that cover the rows; a tie lies in one."""
        # The key of a positive with the same score is the last one of a tie.
        return cut_between_ties(self.keys, tie_end=1)


def sort_packed(labels: np.ndarray, scores: np.ndarray) -> PackedScores:
    """Sort rows by score; ``labels`` are bool, ``scores`` float32 or 64 without NaN."""
    scores = in_float32(scores)
    order = order_of(scores)
    narrow = order.num_bits < 32
    keys = np.empty(len(scores), dtype=np.int32 if narrow else np.int64)

    def pack(block: slice) -> None:
        part = keys[block]
        part[:] = order.encode(scores[block])
        part <<= 1
        part |= labels[block]

    for_each(pack, blocks(len(keys)))
    sort_in_place(keys)
    return PackedScores(keys, order)


@dataclass(frozen=True, slots=True)
class Wins:
    """Pairs of a click and a non-click, counted in whole numbers; parts add up."""

    doubled: int
    """Twice the pairs in the right order, ties one half."""
    positives: int
    negatives: int

    def then(self, above: Wins) -> Wins:
        """Return the count of these rows with others that all score higher."""
        return Wins(
            self.doubled + above.doubled + 2 * above.positives * self.negatives,
            self.positives + above.positives,
            self.negatives + above.negatives,
        )


def packed_auc(packed: PackedScores) -> float:
    """Return the AUC in whole-number arithmetic; both classes must occur."""
    keys = packed.keys
    found = Wins(0, 0, 0)
    for wins in for_each(lambda part: _wins(keys[part]), packed.parts()):
        found = found.then(wins)
    return found.doubled / (2 * found.positives * found.negatives)


def _wins(keys: np.ndarray) -> Wins:
    places = np.flatnonzero((keys & 1).astype(bool))
    positives = len(places)
    # The j-th positive, standing at place i, has i - j negatives before it: those of
    # its own tie too, because they sort first; each of these was half a win too much.
    before = int(places.sum()) - positives * (positives - 1) // 2
    return Wins(2 * before - _tied_pairs(keys), positives, len(keys) - positives)


def _tied_pairs(keys: np.ndarray) -> int:
    """Count pairs of a positive and a negative with the same score."""
    starts = tie_starts(keys)
    lengths = np.diff(starts, append=len(keys))
    # Runs of equal keys that differ in the label bit alone are the two of a mixed tie.
    values = keys[starts]
    mixed = np.flatnonzero((values[1:] ^ values[:-1]) == 1)
    return int((lengths[mixed] * lengths[mixed + 1]).sum())
