"""Rows gathered by group and score: all that metrics within groups need to know.

Shape suffixes: R = rows, T = ties (rows of one group and score), G = groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dlrm.metrics.blocks import blocks, for_each, tie_starts
from dlrm.metrics.clusters import check_groups, number_values
from dlrm.metrics.float_order import in_float32, order_of
from dlrm.metrics.row_sort import sort_rows
from dlrm.metrics.rows import Rows, check_rows


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Ties by group and, within it, rising score; of the rows that have a group.

    A table is a mergeable state: ``merge_group_tables``.
    """

    scores: np.ndarray
    """Score of the tie, float32 or float64 [T]."""
    positives: np.ndarray
    """Weight of the tie's clicks, float64 [T]."""
    negatives: np.ndarray
    """Weight of its other rows, float64 [T]."""
    num_clicks: np.ndarray
    """Number of its clicks, int64 [T]."""
    sizes: np.ndarray
    """Number of its rows, int64 [T]."""
    firsts: np.ndarray
    """The place of each group's first tie, int64 [G]."""
    ids: np.ndarray
    """The groups, rising [G]."""
    num_rows: int
    """Rows that count, those without a group included."""

    @property
    def num_groups(self) -> int:
        """Return the number of groups."""
        return len(self.firsts)

    @property
    def num_ties(self) -> np.ndarray:
        """Return the number of ties in each group, [G]."""
        return np.diff(np.append(self.firsts, len(self.positives)))

    def of_groups(self, values_T: np.ndarray) -> np.ndarray:
        """Return the sums of the ties' values over each group, [G]."""
        if not len(values_T):
            return values_T
        return np.add.reduceat(values_T, self.firsts)

    def before(self, values_T: np.ndarray) -> np.ndarray:
        """Return for each tie the sum over its group's ties of lower scores, [T]."""
        sums = np.cumsum(values_T) - values_T
        return sums - np.repeat(sums[self.firsts], self.num_ties)


def tabulate_groups(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> GroupTable:
    """Sort rows by group and score and add up equal ones; arrays [R].

    ``groups`` holds any sortable ids; rows masked in a ``numpy.ma`` array have none.

    Raises:
        ValueError: Lengths differ, or as ``check_rows``.
        UndefinedMetricError: No rows, or a NaN score.
    """
    groups = check_groups(groups, len(labels))
    present = ~np.ma.getmaskarray(groups)
    if weights is not None:
        present &= np.asarray(weights) > 0
    rows = check_rows(labels, scores, weights)
    chosen = present if weights is None else present[np.asarray(weights) > 0]
    ids = np.ma.getdata(groups)[present]
    inside = Rows(
        rows.labels[chosen],
        rows.scores[chosen],
        None if rows.weights is None else rows.weights[chosen],
    )
    return _tabulate(inside, number_values(ids)[1], ids=ids, num_rows=len(rows.labels))


def tabulate_codes(rows: Rows, codes: np.ndarray, *, num_rows: int) -> GroupTable:
    """Return the table of rows whose groups are whole numbers from 0, [R].

    Groups come in the order of their numbers. ``num_rows`` counts rows without a group
    too.
    """
    return _tabulate(rows, codes, ids=codes, num_rows=num_rows)


def merge_group_tables(tables: Sequence[GroupTable]) -> GroupTable:
    """Return the table of all tables' rows together; at least one is needed.

    Their weights must be of one scale, as in ``score_table.merge_tables``.
    """

    def all_of(column: Callable[[GroupTable], np.ndarray]) -> np.ndarray:
        return np.concatenate([column(table) for table in tables])

    num_rows = sum(table.num_rows for table in tables)
    ids = all_of(lambda table: np.repeat(table.ids, table.num_ties))
    scores = all_of(lambda table: table.scores)
    if len(ids) == 0:
        return _empty(ids, num_rows)
    codes = number_values(ids)[1]
    order = _order(codes, scores)
    ties = _tie_starts(codes[order], scores[order])
    firsts = tie_starts(codes[order[ties]])

    def added(column: Callable[[GroupTable], np.ndarray]) -> np.ndarray:
        return np.add.reduceat(all_of(column)[order], ties)

    return GroupTable(
        scores[order[ties]],
        added(lambda table: table.positives),
        added(lambda table: table.negatives),
        added(lambda table: table.num_clicks),
        added(lambda table: table.sizes),
        firsts,
        ids[order[ties[firsts]]],
        num_rows,
    )


def _tabulate(
    rows: Rows, codes: np.ndarray, *, ids: np.ndarray, num_rows: int
) -> GroupTable:
    if len(codes) == 0:
        return _empty(ids, num_rows)
    order = _order(codes, rows.scores)
    codes, scores, labels = codes[order], rows.scores[order], rows.labels[order]
    ties = _tie_starts(codes, scores)
    sizes_T = np.diff(np.append(ties, len(codes)))
    num_clicks_T = np.add.reduceat(labels, ties, dtype=np.int64)
    if rows.weights is None:
        positives_T = num_clicks_T.astype(np.float64)
        negatives_T = sizes_T - positives_T
    else:
        weights = rows.weights[order]
        clicks = np.where(labels, weights, 0.0)
        positives_T = np.add.reduceat(clicks, ties)
        negatives_T = np.add.reduceat(weights - clicks, ties)
    firsts_G = tie_starts(codes[ties])
    return GroupTable(
        scores[ties],
        positives_T,
        negatives_T,
        num_clicks_T,
        sizes_T,
        firsts_G,
        ids[order[ties[firsts_G]]],
        num_rows,
    )


def _empty(ids: np.ndarray, num_rows: int) -> GroupTable:
    nothing, none = np.zeros(0), np.zeros(0, dtype=np.int64)
    return GroupTable(nothing, nothing, nothing, none, none, none, ids[:0], num_rows)


def _tie_starts(codes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    edges = (codes[1:] != codes[:-1]) | (scores[1:] != scores[:-1])
    return np.concatenate([[0], np.flatnonzero(edges) + 1])


def _order(codes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the order by group, then score."""
    scores = in_float32(scores)
    order = order_of(scores)
    num_bits = int(codes.max()).bit_length() + order.num_bits + 1
    if num_bits > 63:
        return np.lexsort((scores, codes))
    # One sort instead of two: the group above, and below it the score's code, which is
    # raised above 0.
    keys = np.empty(len(codes), dtype=np.int64)
    lift = 1 << (order.num_bits - 1)

    def pack(block: slice) -> None:
        keys[block] = order.encode(scores[block])
        keys[block] += lift
        keys[block] |= codes[block] << order.num_bits

    for_each(pack, blocks(len(keys)))
    return sort_rows(keys, num_bits=num_bits)[1]
