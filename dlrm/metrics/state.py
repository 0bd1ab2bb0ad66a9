"""Metrics of rows that arrive in pieces: batches, shards, ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlrm.metrics.summary import compute_metrics


class MetricState:
    """Keeps rows as they come; ``compute`` is exact, whatever pieces they came in.

    A mean of per-piece AUCs is not the AUC of the whole, nor are fixed bins exact, so
    the state is the rows themselves: 12 bytes a row, 16 with a group.
    """

    def __init__(self) -> None:
        """Start without rows."""
        self._labels: list[np.ndarray] = []
        self._logits: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._groups: list[np.ndarray] = []

    def update(
        self,
        labels: np.ndarray,
        logits: np.ndarray,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        """Add rows; arrays [R]. Weights are 1 where not given.

        Raises:
            ValueError: Some updates of a state give groups and some do not.
        """
        if self._labels and (groups is not None) != bool(self._groups):
            raise ValueError(
                "Either every update of a metric state gives groups or none does, but "
                "this one differs from those before it."
            )
        self._labels.append(np.asarray(labels))
        self._logits.append(np.asarray(logits))
        weights = np.ones(len(labels), np.float32) if weights is None else weights
        self._weights.append(np.asarray(weights))
        if groups is not None:
            self._groups.append(np.ma.asarray(groups))

    def merge(self, other: MetricState) -> None:
        """Add all rows of another state, such as another rank's.

        Raises:
            ValueError: One of the two has groups and the other has not.
        """
        if self._labels and other._labels and bool(self._groups) != bool(other._groups):
            raise ValueError(
                "Metric states must all have groups to be merged, or none, but one has "
                "and the other has not."
            )
        self._labels += other._labels
        self._logits += other._logits
        self._weights += other._weights
        self._groups += other._groups

    def compute(self) -> dict[str, Any]:
        """Return the metrics of all rows; see ``compute_metrics``."""
        if not self._labels:
            return compute_metrics(np.zeros(0), np.zeros(0))
        return compute_metrics(
            np.concatenate(self._labels),
            np.concatenate(self._logits),
            np.concatenate(self._weights),
            _concatenate_masked(self._groups) if self._groups else None,
        )


def _concatenate_masked(parts: list[np.ndarray]) -> np.ndarray:
    return np.ma.array(
        np.concatenate([np.ma.getdata(part) for part in parts]),
        mask=np.concatenate([np.ma.getmaskarray(part) for part in parts]),
    )
