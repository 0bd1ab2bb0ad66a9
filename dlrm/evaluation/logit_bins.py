"""Logits counted in fixed bins: what charts need of any number of rows."""

from __future__ import annotations

import numpy as np

_PER_UNIT = 512
_LARGEST = 64


class LogitBins:
    """Weights of clicks and other rows by logit, in steps of 1 / 512 up to 64.

    A probability within a bin differs by less than 0.0005. Charts may be drawn from
    them; metrics must not be.
    """

    def __init__(self) -> None:
        """Start without rows."""
        self._weights = np.zeros((2, 2 * _LARGEST * _PER_UNIT + 1))

    def add(self, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray) -> None:
        """Add rows, arrays [R]; those with a NaN are in no bin."""
        seen = ~np.isnan(logits)
        places = np.clip(logits[seen].astype(np.float64), -_LARGEST, _LARGEST)
        bins = np.rint((places + _LARGEST) * _PER_UNIT).astype(np.int64)
        clicks = labels[seen] > 0.5
        for row, chosen in ((1, clicks), (0, ~clicks)):
            self._weights[row] += np.bincount(
                bins[chosen],
                weights=weights[seen][chosen].astype(np.float64),
                minlength=self._weights.shape[1],
            )

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return labels, logits and weights, [K]: one row a class of a filled bin."""
        labels, bins = np.nonzero(self._weights)
        logits = bins / _PER_UNIT - _LARGEST
        return labels.astype(np.float32), logits, self._weights[labels, bins]
