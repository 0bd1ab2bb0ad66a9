"""Does the model rank well for each user? AUC within groups.

Shape suffixes: T = ties (rows of one group and score), G = groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dlrm.metrics.group_table import GroupTable, tabulate_codes, tabulate_groups
from dlrm.metrics.rows import Rows
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
    weight: float = 0.0
    """What the groups weigh that ``value`` is a mean over."""


def gauc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    by: Literal["impressions", "clicks"] = "impressions",
) -> GroupedAuc:
    """Return the mean over groups of the AUC within each, weighted by impressions.

    A ranking is shown to one user at a time, so pairs of rows of different users say
    nothing about it, and a model that only learned who clicks a lot has an AUC above,
    but a grouped AUC of one half. Groups weigh what their rows weigh, or ``by`` clicks
    what their clicks weigh: both are in Zhou et al. 2018, section 6.2. Clicks give the
    users who click often more say, and those who see much but want little less. A group
    of one class has no AUC and is left out, and counted: where most are, the value
    speaks for the busiest users alone.

    ``groups`` holds any sortable ids [R]; rows masked in a ``numpy.ma`` array have
    none.

    Raises:
        ValueError: Lengths differ, or as ``auc``.
        UndefinedMetricError: No rows, or a NaN score.
    """
    return gauc_of_table(tabulate_groups(labels, scores, groups, weights), by=by)


def gauc_of_table(
    table: GroupTable, *, by: Literal["impressions", "clicks"] = "impressions"
) -> GroupedAuc:
    """Return the grouped AUC of tabulated rows; see ``gauc``."""
    if table.num_groups == 0:
        return GroupedAuc(None, 0, 0, table.num_rows)
    found = aucs_of_table(table)
    used_G = found.used
    value, weight = None, 0.0
    if used_G.any():
        weights_G = found.clicks if by == "clicks" else found.weights
        value = float(np.average(found.aucs[used_G], weights=weights_G[used_G]))
        weight = float(np.sum(weights_G[used_G]))
    num_used = int(used_G.sum())
    num_rows_used = int(table.of_groups(table.sizes)[used_G].sum())
    return GroupedAuc(
        value,
        num_used,
        table.num_groups - num_used,
        table.num_rows - num_rows_used,
        weight,
    )


@dataclass(frozen=True, slots=True)
class GroupAucs:
    """Each group's own AUC, in the groups' order; arrays [G]."""

    aucs: np.ndarray
    """float64; NaN where the group has one class."""
    used: np.ndarray
    """Whether the group has both classes, bool."""
    weights: np.ndarray
    """Weight of the group's rows, float64."""
    clicks: np.ndarray
    """Weight of its clicks, float64."""


def auc_by_group(rows: Rows, codes: np.ndarray) -> GroupAucs:
    """Return the AUC of each group of rows; ``codes`` are whole numbers from 0, [R]."""
    return aucs_of_table(tabulate_codes(rows, codes, num_rows=len(codes)))


def aucs_of_table(table: GroupTable) -> GroupAucs:
    """Return the AUC of each group of tabulated rows."""
    positives_T, negatives_T = table.positives, table.negatives
    wins_G = table.of_groups(
        positives_T * (table.before(negatives_T) + 0.5 * negatives_T)
    )
    positives_G = table.of_groups(positives_T)
    negatives_G = table.of_groups(negatives_T)
    used_G = both_classes(table)
    pairs_G = np.where(used_G, positives_G * negatives_G, np.nan)
    return GroupAucs(wins_G / pairs_G, used_G, positives_G + negatives_G, positives_G)


def both_classes(table: GroupTable) -> np.ndarray:
    """Return which groups have clicks and other rows, bool [G]."""
    clicks_G = table.of_groups(table.num_clicks)
    return (clicks_G > 0) & (clicks_G < table.of_groups(table.sizes))


def require_value(result: GroupedAuc) -> float:
    """Return the mean AUC.

    Raises:
        UndefinedMetricError: No group has both classes.
    """
    if result.value is None:
        raise UndefinedMetricError("no group with both classes")
    return result.value
