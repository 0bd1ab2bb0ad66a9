"""Speed ratios on a noisy machine: interleaved rounds, medians, and an interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast one contestant is as another."""

    median: float
    low: float
    high: float
    """Ends of the 95 % interval of the median (percentile bootstrap over rounds)."""


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
    ratios = baseline / candidate
    random = np.random.default_rng(0)
    draws = random.integers(0, len(ratios), (_RESAMPLES, len(ratios)))
    medians = np.median(ratios[draws], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))
