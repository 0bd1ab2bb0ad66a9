"""The logistic link between logits and probabilities, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PROBABILITY_FLOOR = 2.0**-52
"""Bare probabilities are clipped to [2^-52, 1 - 2^-52]: 1 - 2^-52 is a float64, and the
largest loss a row can then have, 36 nats, is finite but far beyond any honest one."""


def probabilities_from_logits(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)), without overflow at any z, infinities included."""
    wide = np.asarray(logits, dtype=np.float64)
    # exp only ever sees a number <= 0, so that it underflows to 0 instead of
    # overflowing.
    small = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1.0, small) / (1.0 + small)


def logits_from_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) in float64; 0 and 1 become infinities, NaN stays.

    They are widened first, and the order of probabilities is kept: of two, the greater
    never gets the smaller logit. Neighbouring float64 may get the same one.

    Raises:
        ValueError: A probability is outside [0, 1].
    """
    wide = _widened(probabilities)
    with np.errstate(divide="ignore"):
        # A quotient, not a difference of logarithms, which near 1 / 2 would be the
        # small rest of two large numbers.
        return np.log(wide / (1.0 - wide))


@dataclass(frozen=True, slots=True)
class ClippedProbabilities:
    """Probabilities float64 [R] off 0 and 1, and how many of them were moved."""

    probabilities: np.ndarray
    num_clipped: int


def clip_probabilities(probabilities: np.ndarray) -> ClippedProbabilities:
    """Widen probabilities to float64, then clip them to [2^-52, 1 - 2^-52].

    In this order: the float32 nearest to 1 - 2^-52 is 1. From a logit of 18 on a
    float32 probability is exactly 1, whatever the model knew: its loss is then a
    convention, not a measurement, hence the count. NaN stays and is not counted.

    Raises:
        ValueError: A probability is outside [0, 1].
    """
    wide = _widened(probabilities)
    clipped = np.clip(wide, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    num_clipped = int(np.count_nonzero((clipped != wide) & ~np.isnan(wide)))
    return ClippedProbabilities(clipped, num_clipped)


def _widened(probabilities: np.ndarray) -> np.ndarray:
    wide = np.asarray(probabilities, dtype=np.float64)
    if (wide < 0).any() or (wide > 1).any():
        raise ValueError(
            f"Probabilities must be in [0, 1], but they span {np.nanmin(wide)} to "
            f"{np.nanmax(wide)}."
        )
    return wide
