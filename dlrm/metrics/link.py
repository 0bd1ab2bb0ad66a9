"""The logistic link between logits and probabilities, in float64."""

from __future__ import annotations

import numpy as np


def probabilities_from_logits(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)), without overflow at any z, infinities included."""
    wide = np.asarray(logits, dtype=np.float64)
    # exp only ever sees a number <= 0, so that it underflows to 0 instead of
    # overflowing.
    small = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1.0, small) / (1.0 + small)
