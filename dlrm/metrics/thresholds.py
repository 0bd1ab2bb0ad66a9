"""What if the model had to say yes or no?"""

from __future__ import annotations

import numpy as np

from dlrm.metrics.rows import check_rows, weighted_mean


def accuracy(
    labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the weighted share of rows that a threshold of 0.5 calls rightly.

    A probability of exactly 0.5 (logit 0) is called a click. At low click rates nearly
    every model, a constant included, has one minus the click rate: it is here because
    it is asked for, not because it tells models apart.

    Raises:
        UndefinedMetricError: No rows, or a NaN logit.
    """
    rows = check_rows(labels, logits, weights)
    return weighted_mean(rows, lambda y, z: ((z >= 0) == (y > 0)).astype(np.float64))
