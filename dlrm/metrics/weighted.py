"""Weighted rows in the order of their scores."""

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
from dlrm.metrics.row_sort import gather, sort_rows

_LOW = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class WeightedScores:
    """R rows by ascending score: its code, and the weight, negated where no click."""

    codes: np.ndarray
    signed: np.ndarray
    order: Order

    def by_class(
        self, part: slice, starts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of clicks and others, added up from ``starts`` on."""
        signed = self.signed[part]
        clicks = np.add.reduceat(np.maximum(signed, 0.0), starts)
        return clicks, np.add.reduceat(np.maximum(-signed, 0.0), starts)


def sort_weighted(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> WeightedScores:
    """Sort rows; bool, float32 or float64 without NaN, and float64 above 0; [R] each.

    Where score and weight fit into float32, as those of a run do, they and the label
    are one int64, and the sum of a tie does not depend on the order of rows.
    """
    scores, narrow = in_float32(scores), in_float32(weights)
    order = order_of(scores)
    if order.num_bits <= 32 and narrow.dtype == np.float32:
        return _sort_packed(labels, scores, narrow, order)
    codes = np.empty(len(scores), dtype=np.int64)
    signed = np.empty(len(scores), dtype=np.float64)

    def encode(block: slice) -> None:
        codes[block] = order.encode(scores[block])
        signed[block] = np.where(labels[block], weights[block], -weights[block])

    for_each(encode, blocks(len(codes)))
    codes, rows = sort_rows(codes, num_bits=order.num_bits)
    return WeightedScores(codes, gather(signed, rows), order)


def _sort_packed(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, order: Order
) -> WeightedScores:
    keys = np.empty(len(scores), dtype=np.int64)

    def pack(block: slice) -> None:
        part = keys[block]
        part[:] = order.encode(scores[block])
        part <<= 32
        # A weight is above 0, so that its bits leave the sign's place to the label.
        part |= np.where(labels[block], weights[block], -weights[block]).view(np.uint32)

    for_each(pack, blocks(len(keys)))
    sort_in_place(keys)
    signed = np.empty(len(keys), dtype=np.float64)

    def unpack(block: slice) -> None:
        signed[block] = (keys[block] & _LOW).astype(np.uint32).view(np.float32)
        keys[block] >>= 32

    for_each(unpack, blocks(len(keys)))
    return WeightedScores(keys, signed, order)


def weighted_auc(found: WeightedScores) -> float:
    """Return the AUC; both classes must occur."""
    parts = cut_between_ties(found.codes)
    pairs = positives = negatives = 0.0
    for wins in for_each(lambda part: _wins(found, part), parts):
        pairs += wins.pairs + wins.positives * negatives
        positives += wins.positives
        negatives += wins.negatives
    return min(pairs / (positives * negatives), 1.0)


@dataclass(frozen=True, slots=True)
class _Wins:
    """Weight of pairs in the right order, ties one half, and that of either class."""

    pairs: float
    positives: float
    negatives: float


def _wins(found: WeightedScores, part: slice) -> _Wins:
    clicks, others = found.by_class(part, tie_starts(found.codes[part]))
    below = np.cumsum(others) - others
    pairs = float(np.sum(clicks * (below + 0.5 * others)))
    return _Wins(pairs, float(clicks.sum()), float(others.sum()))
