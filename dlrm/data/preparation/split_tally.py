"""Counts by split while rows are encoded: rows, clicks, and ids that are not known."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from dlrm.config.data import SPLITS
from dlrm.config.schema import SplitSummary
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.transforms.fitted import Observer


def _zeros() -> np.ndarray:
    return np.zeros(len(SPLITS))


class SplitTally:
    """Sums over all chunks; arrays hold one number a split."""

    def __init__(self) -> None:
        """Start at zero."""
        self._num_rows = _zeros()
        self._positives = _zeros()
        self._weights = _zeros()
        self._ids: defaultdict[str, np.ndarray] = defaultdict(_zeros)
        self._outside: defaultdict[str, np.ndarray] = defaultdict(_zeros)

    def add(self, rows: EncodedRows, codes: np.ndarray) -> None:
        """Count rows whose splits are ``codes``."""
        size = len(SPLITS)
        weights = rows.weights.astype(np.float64)
        self._num_rows += np.bincount(codes, minlength=size)
        self._positives += np.bincount(codes, weights * rows.labels, size)
        self._weights += np.bincount(codes, weights, size)

    def observer(self, codes: np.ndarray) -> Observer:
        """Return what counts the ids of rows whose splits are ``codes``."""
        num_splits = len(SPLITS)
        num_rows = np.bincount(codes, minlength=num_splits)

        def observe(
            name: str, is_outside: np.ndarray, lengths: np.ndarray | None
        ) -> None:
            self._ids[name] += (
                num_rows if lengths is None else np.bincount(codes, lengths, num_splits)
            )
            if is_outside.any():
                own = codes if lengths is None else np.repeat(codes, lengths)
                for code in range(num_splits):
                    num_outside = np.count_nonzero(is_outside & (own == code))
                    self._outside[name][code] += num_outside

        return observe

    def counts(self) -> dict[str, Any]:
        """Return all sums as JSON data."""
        return {
            "num_rows": self._num_rows.tolist(),
            "positives": self._positives.tolist(),
            "weights": self._weights.tolist(),
            "ids": {name: sums.tolist() for name, sums in self._ids.items()},
            "outside": {name: sums.tolist() for name, sums in self._outside.items()},
        }

    def merge(self, counts: dict[str, Any]) -> None:
        """Take in the ``counts`` of further rows."""
        self._num_rows += counts["num_rows"]
        self._positives += counts["positives"]
        self._weights += counts["weights"]
        for name, sums in counts["ids"].items():
            self._ids[name] += sums
        for name, sums in counts["outside"].items():
            self._outside[name] += sums

    def splits(self) -> dict[str, SplitSummary]:
        """Return every split's size and click rate."""
        return {
            name: SplitSummary(
                num_rows=int(self._num_rows[code]),
                num_positives=float(self._positives[code]),
                total_weight=float(self._weights[code]),
            )
            for code, name in enumerate(SPLITS)
        }

    def outside(self) -> dict[str, dict[str, float]]:
        """Return by feature and split the share of ids outside; without ids none."""
        return {
            name: {
                split: float(self._outside[name][code] / num_ids[code])
                for code, split in enumerate(SPLITS)
                if num_ids[code]
            }
            for name, num_ids in self._ids.items()
        }

    def num_outside(self) -> dict[str, dict[str, int]]:
        """Return by feature and split the number of ids outside."""
        return {
            name: {split: int(found[code]) for code, split in enumerate(SPLITS)}
            for name, found in self._outside.items()
        }
