"""Does the model rank well for each user? AUC within groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.score_table import tie_starts
from dlrm.metrics.undefined import UndefinedMetricError


@dataclass(frozen=True, slots=True)
class GroupedAuc:
    """The mean AUC, and how many groups and rows it does and does not speak for.

    ``value`` is None where no group has both classes. ``num_rows_left_out`` counts the
    rows of groups left out and the rows that have no group.
    """

    value: float | None
    num_groups: int
    num_groups_left_out: int
    num_rows_left_out: int


def gauc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> GroupedAuc:
    """Return the mean over groups of the AUC within each, weighted by impressions.

    A ranking is shown to one user at a time, so pairs of rows of different users say
    nothing about it, and a model that only learned who clicks a lot has an AUC above,
    but a grouped AUC of one half. Groups weigh what their rows weigh (Zhou et al. 2018,
    section 6.2). A group of one class has no AUC and is left out, and counted: where
    most are, the value speaks for the busiest users alone.

    ``groups`` holds any sortable ids [R]; rows masked in a ``numpy.ma`` array have
    none.

    Raises:
        ValueError: Lengths differ, or as ``auc``.
        UndefinedMetricError: No rows, or a NaN score.
    """
    groups = np.ma.asarray(groups)
    if groups.shape != (len(labels),):
        raise ValueError(
            f"groups must be one id a row, shape ({len(labels)},) as the labels, but "
            f"their shape is {groups.shape}."
        )
    present = ~np.ma.getmaskarray(groups)
    if weights is not None:
        present &= np.asarray(weights) > 0
    rows = check_rows(labels, scores, weights)
    chosen = present if weights is None else present[np.asarray(weights) > 0]
    codes = _codes(np.ma.getdata(groups)[present])
    inside = Rows(
        rows.labels[chosen],
        rows.scores[chosen],
        None if rows.weights is None else rows.weights[chosen],
    )
    return _gauc(inside, codes, num_rows=len(rows.labels))


def _codes(groups: np.ndarray) -> np.ndarray:
    """Number the groups from 0; ids that are such numbers already stay, with gaps."""
    if groups.dtype.kind in "iu" and len(groups):
        low, high = int(groups.min()), int(groups.max())
        if low >= 0 and high < 4 * len(groups):
            return groups.astype(np.int64)
    return np.unique(groups, return_inverse=True)[1]


def _order(codes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the order by group, then score."""
    if scores.dtype != np.float32 or codes.max() >= 2**32:
        return np.lexsort((scores, codes))
    # One sort of 64-bit numbers instead of two sorts: the group above, and below it the
    # bits of the score, flipped so that they rise with its value (-0.0 becomes 0.0).
    bits = (scores + np.float32(0)).view(np.uint32)
    flip = np.where(scores < 0, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    keys = codes.astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= bits ^ flip
    return np.argsort(keys)


def _gauc(rows: Rows, codes: np.ndarray, *, num_rows: int) -> GroupedAuc:
    if len(codes) == 0:
        return GroupedAuc(None, 0, 0, num_rows)
    order = _order(codes, rows.scores)
    codes, scores = codes[order], rows.scores[order]
    weights = np.ones(len(order)) if rows.weights is None else rows.weights[order]
    clicks = np.where(rows.labels[order], weights, 0.0)

    edges = (codes[1:] != codes[:-1]) | (scores[1:] != scores[:-1])
    ties = np.concatenate([[0], np.flatnonzero(edges) + 1])
    positives = np.add.reduceat(clicks, ties)
    negatives = np.add.reduceat(weights - clicks, ties)
    firsts = tie_starts(codes[ties])
    sizes = np.diff(np.append(firsts, len(ties)))

    before = np.cumsum(negatives) - negatives
    before -= np.repeat(before[firsts], sizes)
    wins = np.add.reduceat(positives * (before + 0.5 * negatives), firsts)
    group_positives = np.add.reduceat(positives, firsts)
    group_negatives = np.add.reduceat(negatives, firsts)
    used = (group_positives > 0) & (group_negatives > 0)

    starts = ties[firsts]
    lengths = np.diff(np.append(starts, len(codes)))
    num_used = int(used.sum())
    value = None
    if num_used:
        aucs = wins[used] / (group_positives[used] * group_negatives[used])
        value = float(
            np.average(aucs, weights=(group_positives + group_negatives)[used])
        )
    return GroupedAuc(
        value, num_used, len(firsts) - num_used, num_rows - int(lengths[used].sum())
    )


def require_value(result: GroupedAuc) -> float:
    """Return the mean AUC.

    Raises:
        UndefinedMetricError: No group has both classes.
    """
    if result.value is None:
        raise UndefinedMetricError("no group with both classes")
    return result.value
