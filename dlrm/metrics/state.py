"""Metrics of rows that arrive in pieces: batches, shards, ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlrm.metrics.summary import measure
from dlrm.metrics.tabulated import Tabulated, merge_tabulated, tabulate


class MetricState:
    """Takes rows as they come; ``compute`` gives the metrics of them all.

    Every piece is tabulated as a whole evaluation is, and the tables are merged: the
    same code measures a batch, a rank's rows, a slice and a split, and the numbers are
    those of the whole however it was cut, up to the rounding of sums of weights. 24
    bytes a distinct score, 32 with weights, and 44 more a distinct score in a group.
    """

    def __init__(self) -> None:
        """Start without rows."""
        self._parts: list[Tabulated] = []

    def update(
        self,
        labels: np.ndarray,
        logits: np.ndarray,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """Add rows; arrays [R]. Weights are 1 where not given.

        Raises:
            ValueError: Lengths differ, a label is not 0 or 1, a weight is negative, or
                some updates of a state give groups and some do not.
        """
        self._add([tabulate(labels, logits, weights, groups)])

    def merge(self, other: MetricState) -> None:
        """Add all rows of another state, such as another rank's.

        Raises:
            ValueError: One of the two has groups and the other has not.
        """
        self._add(other._parts)

    def compute(self) -> dict[str, Any]:
        """Return the metrics of all rows; see ``compute_metrics``."""
        parts = self._parts or [tabulate(np.zeros(0), np.zeros(0))]
        return measure(merge_tabulated(parts))

    def _add(self, parts: list[Tabulated]) -> None:
        if len({part.grouped for part in self._parts + parts}) > 1:
            raise ValueError(
                "Either all rows of a metric state come with groups or none do, but "
                "these differ from those before them."
            )
        self._parts = self._parts + parts
