"""How good is the list that a group would be shown, best first?

Shape suffixes: T = ties (rows of one group and score), G = groups.

A group's rows in falling order of score are its list, and clicks are what should stand
high in it. Rows of equal score stand in no order, so every metric is the mean over all
orders of them, in closed form (McSherry and Najork 2008): a model that gives one score
to all does no better than a draw of lots, whatever order the rows come in.

Places count rows, whatever they weigh: the list is what a user sees. Each group counts
once, or where rows have weights by their mean. Groups of one class are left out, as in
grouped AUC: without a click there is nothing to find, and of clicks alone every order
is right. Of how many groups and rows that is, ``gauc`` gives the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.group_table import GroupTable, tabulate_groups
from dlrm.metrics.grouped import both_classes
from dlrm.metrics.undefined import UndefinedMetricError


def ndcg_at_k(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    k: int = 10,
) -> float:
    """Return the mean over groups of the normalised discounted gain of the first k.

    A click at place i gains 1 / log2(1 + i) up to place k; the sum is divided by that
    of the best order (Järvelin and Kekäläinen 2002, gains 0 and 1). It sees every click
    of the list's head, the higher the more.

    Raises:
        ValueError: Lengths differ, or as ``auc``; k is below 1.
        UndefinedMetricError: No rows, a NaN score, or no group with both classes.
    """
    return ndcg_of_table(tabulate_groups(labels, scores, groups, weights), k=k)


def mean_reciprocal_first_click(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
) -> float:
    """Return the mean over groups of 1 / place of the first click: MRR.

    It sees the first click alone, so it fits where one is enough. ``retrieval`` has the
    metric of one right document among a catalogue.

    Raises:
        ValueError: Lengths differ, or as ``auc``.
        UndefinedMetricError: No rows, a NaN score, or no group with both classes.
    """
    return mrr_of_table(tabulate_groups(labels, scores, groups, weights))


def hit_rate_at_k(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    k: int = 10,
) -> float:
    """Return the share of groups with a click among their first k rows.

    A group of at most k rows always has one: where most are that short, it tells models
    apart by the few that are not.

    Raises:
        ValueError: Lengths differ, or as ``auc``; k is below 1.
        UndefinedMetricError: No rows, a NaN score, or no group with both classes.
    """
    return hit_rate_of_table(tabulate_groups(labels, scores, groups, weights), k=k)


def ndcg_of_table(table: GroupTable, *, k: int = 10) -> float:
    """Return the NDCG of tabulated rows; see ``ndcg_at_k``."""
    _check_k(k)
    # Of the first n places, n up to k: what clicks at all of them gain.
    gains = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))
    above_T = _rows_above(table)
    ends_T = np.minimum(above_T + table.sizes, k)
    reached_T = gains[ends_T] - gains[np.minimum(above_T, k)]
    found_G = table.of_groups(table.num_clicks / table.sizes * reached_T)
    best_G = gains[np.minimum(table.of_groups(table.num_clicks), k)]
    used_G = _used(table)
    return _mean(table, found_G[used_G] / best_G[used_G], used_G)


def mrr_of_table(table: GroupTable) -> float:
    """Return the MRR of tabulated rows; see ``mean_reciprocal_first_click``."""
    used_G = _used(table)
    heads = _heads(table, used_G)
    values = 1.0 / (heads.above + 1)
    mixed = np.flatnonzero(heads.num_rows > heads.num_clicks)
    # The value depends on three small numbers, which many groups share.
    kinds, of_group = np.unique(
        np.stack([heads.above, heads.num_rows, heads.num_clicks])[:, mixed],
        axis=1,
        return_inverse=True,
    )
    shared = np.array([_reciprocal(*kind) for kind in kinds.T.tolist()])
    if len(mixed):
        values[mixed] = shared[of_group.reshape(-1)]
    return _mean(table, values, used_G)


def hit_rate_of_table(table: GroupTable, *, k: int = 10) -> float:
    """Return the hit rate of tabulated rows; see ``hit_rate_at_k``."""
    _check_k(k)
    used_G = _used(table)
    heads = _heads(table, used_G)
    room = np.clip(k - heads.above, 0, heads.num_rows)
    missed = np.ones(len(room))
    for drawn in range(min(k, int(room.max(initial=0)))):
        others = np.maximum(heads.num_rows - heads.num_clicks - drawn, 0)
        chance = others / np.maximum(heads.num_rows - drawn, 1)
        missed = np.where(drawn < room, missed * chance, missed)
    return _mean(table, 1.0 - missed, used_G)


@dataclass(frozen=True, slots=True)
class _Heads:
    """Each used group's highest tie that has a click, int64 each."""

    above: np.ndarray
    num_rows: np.ndarray
    num_clicks: np.ndarray


def _heads(table: GroupTable, used_G: np.ndarray) -> _Heads:
    clicked_T = np.flatnonzero(table.num_clicks)
    ends_G = table.firsts + table.num_ties
    last = clicked_T[np.searchsorted(clicked_T, ends_G[used_G]) - 1]
    return _Heads(_rows_above(table)[last], table.sizes[last], table.num_clicks[last])


def _rows_above(table: GroupTable) -> np.ndarray:
    """Return for each tie the rows of its group with higher scores, int64 [T]."""
    sizes = np.repeat(table.of_groups(table.sizes), table.num_ties)
    return sizes - table.before(table.sizes) - table.sizes


def _reciprocal(above: int, num_rows: int, num_clicks: int) -> float:
    """Return the mean of 1 / place of the first click, over all orders of its tie."""
    drawn = np.arange(num_rows - num_clicks + 1, dtype=np.float64)
    left = num_rows - drawn
    none_before = np.cumprod(np.append(1.0, ((left - num_clicks) / left)[:-1]))
    return float(np.sum(none_before * (num_clicks / left) / (above + 1 + drawn)))


def _used(table: GroupTable) -> np.ndarray:
    used_G = both_classes(table)
    if not used_G.any():
        raise UndefinedMetricError("no group with both classes")
    return used_G


def list_weight(table: GroupTable) -> float:
    """Return what the metrics of lists of a table weigh beside another table's.

    Raises:
        UndefinedMetricError: No group with both classes.
    """
    return float(np.sum(_list_weights(table, _used(table))))


def _list_weights(table: GroupTable, used_G: np.ndarray) -> np.ndarray:
    """Return the mean weight of the rows of each used group."""
    weights_G = table.of_groups(table.positives + table.negatives)
    return (weights_G / table.of_groups(table.sizes))[used_G]


def _mean(table: GroupTable, values: np.ndarray, used_G: np.ndarray) -> float:
    """Return the mean of the used groups' values by the mean weight of their rows."""
    weights = _list_weights(table, used_G)
    return float(np.sum(weights * values) / np.sum(weights))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, but is {k}.")
