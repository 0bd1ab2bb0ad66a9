"""How sure is a difference of two models on the same rows? What every metric shares.

Shape suffixes: R = rows, G = clusters of rows that may depend on each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dlrm.metrics import student
from dlrm.metrics.undefined import UndefinedMetricError

LEVEL = 0.95
POWER = 0.80


@dataclass(frozen=True, slots=True)
class Variance:
    """An estimated variance and its degrees of freedom; 0 with infinitely many."""

    value: float = 0.0
    df: float = math.inf


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """A difference of means over seeds, and what it varies by.

    Rows and seeds are drawn independently of each other, so that their variances add
    up: row variance + s^2 / S of either model, S its number of seeds. The sum of
    estimated variances is taken for one with the degrees of freedom of Welch (1947)
    and Satterthwaite (1946), (sum V)^2 / sum(V^2 / df).
    """

    difference: float
    rows: Variance
    """Over other test rows, or clusters of rows, of the same kind."""
    seeds: Variance = Variance()
    """Over other seeds of both models; 0 where each has one."""

    @property
    def row_error(self) -> float:
        """The standard error over other test rows of the same kind."""
        return math.sqrt(self.rows.value)

    @property
    def seed_error(self) -> float:
        """The standard error over other seeds; 0 where each model has one."""
        return math.sqrt(self.seeds.value)

    @property
    def error(self) -> float:
        """The standard error that carries both."""
        return math.hypot(self.row_error, self.seed_error)

    @property
    def df(self) -> float:
        """The degrees of freedom of ``error``."""
        return add_variances(self.rows, self.seeds).df

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, by Student's t."""
        if self.error == 0.0:
            return self.difference, self.difference
        half = student.quantile(0.5 + LEVEL / 2, self.df) * self.error
        return self.difference - half, self.difference + half

    @property
    def normal_interval(self) -> tuple[float, float]:
        """The 95 % interval as if the errors were known; too short with few seeds."""
        half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * self.error
        return self.difference - half, self.difference + half

    @property
    def p_value(self) -> float:
        """How often chance alone makes a difference as large, where there is none."""
        if self.error == 0.0:
            return 1.0 if self.difference == 0.0 else 0.0
        return student.two_sided_p(self.difference / self.error, self.df)

    @property
    def detectable(self) -> float | None:
        """The true difference that such rows would show four times in five.

        A two-sided test at 5 % finds it with 80 % power: (t of 97.5 % + t of 80 %)
        times the standard error. None where that is 0: the models say the same.
        """
        if self.error == 0.0:
            return None
        both = student.quantile(0.5 + LEVEL / 2, self.df)
        return (both + student.quantile(POWER, self.df)) * self.error


def add_variances(*parts: Variance) -> Variance:
    """Return the variance of a sum of independent parts (Welch 1947)."""
    total = sum(part.value for part in parts)
    if total == 0.0:
        return Variance()
    # Shares, not squares: those of tiny variances are 0 in float64.
    spread = sum((part.value / total) ** 2 / part.df for part in parts)
    return Variance(total, math.inf if spread == 0.0 else 1.0 / spread)


def seed_variance(*models: np.ndarray) -> Variance:
    """Return the variance of the difference of the models' means over their seeds.

    A model's array holds the metric of each of its seeds; one seed tells nothing.
    """
    return add_variances(
        *(
            Variance(float(values.var(ddof=1)) / len(values), len(values) - 1)
            for values in map(np.asarray, models)
            if len(values) > 1
        )
    )


def ratio_difference(
    gains: np.ndarray,
    shares: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    codes: np.ndarray | None = None,
) -> PairedDifference:
    """Return sum(w gains) / sum(w shares), the difference of two ratios of sums.

    ``gains`` is the candidate's value less the baseline's, row by row: what is hard
    for both cancels. With ``shares`` all 1 and no weights it is the paired t-test.
    Else a row moves the ratio by w (gain - ratio x share) / sum(w shares), to first
    order (Cochran 1977, section 6.3); with ``codes`` the rows of a cluster are added
    up first, as they may go up and down together (Liang and Zeger 1986).

    Args:
        gains: float64 [R].
        shares: float64 [R], not negative.
        weights: float64 [R]; 1 where not given.
        codes: int64 [R], clusters from 0 without gaps; rows alone where not given.

    Raises:
        UndefinedMetricError: The shares sum to 0, or there are fewer than two rows or
            clusters, which vary in nothing.
    """
    if weights is not None:
        gains, shares = gains * weights, shares * weights
    total = float(shares.sum())
    if total == 0.0:
        raise UndefinedMetricError("nothing to divide by")
    ratio = float(gains.sum()) / total
    moves = (gains - ratio * shares) / total
    return PairedDifference(ratio, variance_of_sum(sum_clusters(moves, codes)))


def sum_clusters(moves: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    """Add up the rows of each cluster; float64 [R] or [G]."""
    if codes is None:
        return moves
    return np.bincount(codes, weights=moves).astype(np.float64)


def variance_of_sum(moves: np.ndarray) -> Variance:
    """Return the variance of a sum of independent parts that sum to 0.

    Raises:
        UndefinedMetricError: There are fewer than two.
    """
    number = len(moves)
    if number < 2:
        raise UndefinedMetricError("fewer than two rows or groups")
    squares = float(np.sum(moves * moves))
    return Variance(number / (number - 1) * squares, number - 1)
