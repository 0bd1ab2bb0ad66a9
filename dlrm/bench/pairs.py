"""Speed ratios on a noisy machine: interleaved rounds, medians, and an interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000
NOISE_LIMIT = 0.03
"""How far identical code may lie from itself before a measurement says nothing."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast one contestant is as another."""

    median: float
    low: float
    high: float
    """Ends of the 95 % interval of the median (percentile bootstrap over rounds)."""

    @property
    def is_noise(self) -> bool:
        """Whether it is too far from 1 for a contestant against itself."""
        return abs(self.median - 1) > NOISE_LIMIT

    def __str__(self) -> str:
        """Return the ratio with its interval."""
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interleave(
    contestants: Mapping[str, Callable[[], None]], *, num_rounds: int
) -> dict[str, np.ndarray]:
    """Run every contestant once a round and return its seconds, shape [rounds].

    The order turns round by round, so that none always follows the same other one. One
    round before the first is not counted.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(num_rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.perf_counter()
            contestants[name]()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def speed_ratio(candidate: np.ndarray, baseline: np.ndarray) -> Ratio:
    """Return baseline seconds / candidate seconds, round by round."""
    return median_of(baseline / candidate)


def median_of(values: np.ndarray) -> Ratio:
    """Return the median of a figure of each round, with its interval."""
    random = np.random.default_rng(0)
    draws = random.integers(0, len(values), (_RESAMPLES, len(values)))
    medians = np.median(values[draws], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(values)), float(low), float(high))
