"""Rows reduced to what metrics need of them: a state that parts merge into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlrm.metrics.group_table import GroupTable, merge_group_tables, tabulate_groups
from dlrm.metrics.rows import as_clicks, check_rows
from dlrm.metrics.score_table import ScoreTable, merge_tables, tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError


@dataclass(frozen=True, slots=True)
class Tabulated:
    """Rows by score, and by group and score; what is here of a part adds up.

    A mean of the parts' AUCs is not the AUC of the whole, nor are fixed bins exact, so
    the state holds every distinct score with the weight of either class there. That is
    exact, and no more than the rows themselves: equal scores are one entry.
    """

    num_examples: int
    """Rows, whatever they weigh."""
    num_positives: int
    """Clicks, whatever they weigh."""
    num_counted: int
    """Rows that weigh something."""
    num_nan: int
    """Rows that count and whose score is NaN. With one there are no tables."""
    scores: ScoreTable | None
    """None where no row counts."""
    groups: GroupTable | None
    """None where no row counts, or rows came without groups."""
    grouped: bool
    """Whether rows came with groups."""
    scale: float
    """What a weight of 1 in the tables stands for."""

    def why_undefined(self) -> str | None:
        """Return why no metric has a value, None where some may have one."""
        if self.num_nan:
            return f"{self.num_nan} of {self.num_counted} scores are NaN"
        return "no rows" if self.scores is None else None


def tabulate(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> Tabulated:
    """Sort R rows once by score, and once by group and score; arrays [R].

    ``groups`` may be masked. Rows of weight 0 are counted in ``num_examples`` alone.

    Raises:
        ValueError: Lengths differ, a label is not 0 or 1, or a weight is negative.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    table, by_group, scale = None, None, 1.0
    num_counted, num_nan = len(labels), 0
    num_positives = int(np.count_nonzero(as_clicks(labels)))
    try:
        rows = check_rows(labels, scores, weights)
    except UndefinedMetricError:
        counted = slice(None) if weights is None else np.asarray(weights) > 0
        num_counted = len(labels[counted])
        num_nan = int(np.count_nonzero(np.isnan(scores[counted])))
    else:
        num_counted = len(rows.labels)
        table = tabulate_scores(rows)
        if groups is not None:
            by_group = tabulate_groups(labels, scores, groups, weights)
        if weights is not None and rows.weights is None:
            scale = float(np.max(weights))
    return Tabulated(
        num_examples=len(labels),
        num_positives=num_positives,
        num_counted=num_counted,
        num_nan=num_nan,
        scores=table,
        groups=by_group,
        grouped=groups is not None,
        scale=scale,
    )


def merge_tabulated(parts: Sequence[Tabulated]) -> Tabulated:
    """Return the state of all parts' rows together; at least one is needed.

    Raises:
        ValueError: Some parts have groups and some have not.
    """
    if len(parts) == 1:
        return parts[0]
    if len({part.grouped for part in parts}) > 1:
        raise ValueError(
            "Rows must all come with groups or all without to be measured together, "
            "but some have groups and some have not."
        )
    num_nan = sum(part.num_nan for part in parts)
    filled = [part for part in parts if part.scores is not None]
    scale = 1.0
    if filled and all(part.scale == filled[0].scale for part in filled):
        scale = filled[0].scale
    else:
        filled = [_in_own_weights(part) for part in filled]
    tables = [part.scores for part in filled if part.scores is not None]
    by_group = [part.groups for part in filled if part.groups is not None]
    return Tabulated(
        num_examples=sum(part.num_examples for part in parts),
        num_positives=sum(part.num_positives for part in parts),
        num_counted=sum(part.num_counted for part in parts),
        num_nan=num_nan,
        scores=merge_tables(tables) if tables and not num_nan else None,
        groups=merge_group_tables(by_group) if by_group and not num_nan else None,
        grouped=parts[0].grouped,
        scale=scale,
    )


def _in_own_weights(part: Tabulated) -> Tabulated:
    """Return the part with its tables in the weights that its rows came with."""
    assert part.scores is not None
    if part.scale == 1:
        return part
    scores = ScoreTable(
        part.scores.scores,
        part.scores.positives * part.scale,
        part.scores.negatives * part.scale,
        part.scores.sums_of_squares() * part.scale**2,
    )
    groups = part.groups
    if groups is not None:
        groups = replace(
            groups,
            positives=groups.positives * part.scale,
            negatives=groups.negatives * part.scale,
        )
    return replace(part, scores=scores, groups=groups, scale=1.0)
