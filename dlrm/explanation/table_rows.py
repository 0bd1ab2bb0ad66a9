"""What is wrong with the rows of one table, from a stream of its rows in parts.

Kept of every row: its norm, a hash and two flags, 14 bytes. Shape suffixes: R = rows of
a table, P = rows of a part, D = width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_QUANTILES = {"p01": 0.01, "p25": 0.25, "median": 0.5, "p75": 0.75, "p99": 0.99}
TINY, LARGE = 1e-3, 10.0
"""Times the median norm: below the first a row is as good as dead, above the second it
outweighs its table."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)


@dataclass(slots=True)
class RowsSeen:
    """A table's rows, taken in part after part."""

    norms: list[np.ndarray] = field(default_factory=list)
    hashes: list[np.ndarray] = field(default_factory=list)
    untrained: list[np.ndarray] = field(default_factory=list)
    padding: list[np.ndarray] = field(default_factory=list)
    gram: np.ndarray | None = None
    """float64 [D, D], over finite trained rows."""

    def add(
        self,
        rows: np.ndarray,
        *,
        untrained: np.ndarray | None = None,
        padding: int | None = None,
    ) -> None:
        """Take in a part.

        Args:
            rows: float32 [P, D].
            untrained: bool [P]; None where it is not known.
            padding: The part's row that stands for no value, counted from its first.
        """
        # -0.0 is 0.0 as a value, but not as bits.
        rows = rows + np.float32(0.0)
        norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
        is_padding = np.zeros(len(rows), dtype=bool)
        if padding is not None:
            is_padding[padding] = True
        self.norms.append(norms.astype(np.float32))
        self.hashes.append(hash_rows(rows))
        self.padding.append(is_padding)
        if untrained is not None:
            self.untrained.append(untrained)
        counted = np.isfinite(norms) & ~is_padding
        if untrained is not None:
            counted &= ~untrained
        chosen = rows[counted].astype(np.float64)
        gram = chosen.T @ chosen
        self.gram = gram if self.gram is None else self.gram + gram

    def describe(self) -> dict[str, Any]:
        """Return the counts; see ``dlrm.explanation.health`` for their meaning."""
        kept = ~np.concatenate(self.padding)
        norms = np.concatenate(self.norms)[kept]
        hashes = np.concatenate(self.hashes)[kept]
        finite = np.isfinite(norms)
        untrained = np.concatenate(self.untrained)[kept] if self.untrained else None
        trained = finite if untrained is None else finite & ~untrained
        median = float(np.median(norms[trained])) if trained.any() else 0.0
        _, sizes = np.unique(hashes[norms != 0], return_counts=True)
        return {
            "never_trained": None if untrained is None else int(untrained.sum()),
            "norms": norm_summary(norms[finite]),
            "trained_norms": None
            if untrained is None
            else norm_summary(norms[trained]),
            "not_finite_rows": int(np.count_nonzero(~finite)),
            "zero_rows": int(np.count_nonzero(norms == 0)),
            "tiny_rows": int(
                np.count_nonzero(trained & (norms > 0) & (norms < TINY * median))
            ),
            "large_rows": int(np.count_nonzero(trained & (norms > LARGE * median)))
            if median > 0
            else 0,
            "duplicate_rows": int((sizes - 1).sum()),
            "largest_duplicate_group": int(sizes.max()) if (sizes > 1).any() else 0,
            "effective_rank": effective_rank(self.gram),
        }


def norm_summary(norms: np.ndarray) -> dict[str, float] | None:
    """Return mean, ends and quantiles of Euclidean norms; None without any."""
    if len(norms) == 0:
        return None
    found = np.quantile(norms.astype(np.float64), list(_QUANTILES.values()))
    return {
        "mean": float(norms.mean(dtype=np.float64)),
        "min": float(norms.min()),
        **dict(zip(_QUANTILES, found.tolist(), strict=True)),
        "max": float(norms.max()),
    }


def effective_rank(gram: np.ndarray | None) -> float | None:
    """Return exp(entropy of the singular values' shares), from 1 to D.

    Of the matrix of rows, whose Gram matrix is given (Roy and Vetterli 2007): D where
    the rows use all directions alike, 1 where they lie on a line. None without rows.
    """
    if gram is None:
        return None
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))
    total = float(singular.sum())
    if total == 0:
        return None
    shares = singular[singular > 0] / total
    return float(math.exp(-np.sum(shares * np.log(shares))))


def expected_collisions(used: int, buckets: int) -> dict[str, float] | None:
    """Return how many ids share rows, from how many hashed rows are in use.

    D ids that a hash spreads over m buckets use m (1 - (1 - 1/m)^D) of them on average;
    solved for D ("linear counting": Whang, Vander-Zanden and Taylor 1990). An id is
    then alone with the chance (1 - 1/m)^(D - 1). None where all buckets are in use, and
    D could be anything, or none is.
    """
    if not 0 < used < buckets:
        return None
    ids = math.log1p(-used / buckets) / math.log1p(-1 / buckets)
    return {
        "expected_ids": ids,
        "ids_per_used_bucket": ids / used,
        "share_of_ids_colliding": 1.0 - (1.0 - 1.0 / buckets) ** max(ids - 1.0, 0.0),
    }


def hash_rows(rows: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each row's bits, uint64 [P].

    Two of n different rows get the same with a chance of about n^2 / 2^65: 3e-4 for
    1e8.
    """
    words = np.ascontiguousarray(rows).view(np.uint32)
    hashes = np.zeros(len(rows), dtype=np.uint64)
    for column in range(words.shape[1]):
        # SplitMix64's finalizer (Steele, Lea and Flood 2014) of what was and what came.
        hashes = (hashes + _GOLDEN) ^ words[:, column].astype(np.uint64)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * _FACTOR_1
        hashes = (hashes ^ (hashes >> np.uint64(27))) * _FACTOR_2
        hashes ^= hashes >> np.uint64(31)
    return hashes
