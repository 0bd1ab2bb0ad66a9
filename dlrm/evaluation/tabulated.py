"""The rows of a report, sorted once for all of its charts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError


@dataclass(frozen=True, slots=True)
class Tabulated:
    """The rows that count, with their table of scores."""

    rows: Rows
    table: ScoreTable


def tabulated(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> Tabulated | None:
    """Sort the rows once; None where no metric is defined on them. Arrays are [R]."""
    try:
        rows = check_rows(labels, logits, weights)
    except UndefinedMetricError:
        return None
    return Tabulated(rows, tabulate_scores(rows))
