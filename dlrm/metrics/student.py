"""Student's t distribution, from its definition: numpy has none."""

from __future__ import annotations

import math
from statistics import NormalDist

_NEARLY_NORMAL = 1e7
"""From this many degrees of freedom on the normal distribution agrees to 1e-7."""
_TINY = 1e-300


def two_sided_p(t: float, df: float) -> float:
    """Return the chance that abs(T) is at least abs(t), T of Student's t with ``df``.

    It is the regularized incomplete beta function I_x(df / 2, 1 / 2) at x = df / (df +
    t^2) (Abramowitz and Stegun 1964, 26.7.1 and 26.5.8). ``df`` need not be whole.

    Raises:
        ValueError: ``df`` is not above 0, or ``t`` is NaN.
    """
    if not df > 0 or math.isnan(t):
        raise ValueError(f"df must be above 0 and t a number, but got {df} and {t}.")
    if df >= _NEARLY_NORMAL:
        return math.erfc(abs(t) / math.sqrt(2.0))
    if math.isinf(t):
        return 0.0
    return _incomplete_beta(df / 2.0, 0.5, t * t, df)


def quantile(probability: float, df: float) -> float:
    """Return the value that T of Student's t with ``df`` stays below so often.

    Found by Newton's steps from the normal quantile, each held between two values that
    the quantile is known to lie between.

    Raises:
        ValueError: ``probability`` is not inside (0, 1), or ``df`` is not above 0.
    """
    if not 0.0 < probability < 1.0:
        raise ValueError(f"probability must be inside (0, 1), but it is {probability}.")
    if df >= _NEARLY_NORMAL:
        return NormalDist().inv_cdf(probability)
    if probability == 0.5:
        return 0.0
    beyond = 2.0 * min(probability, 1.0 - probability)
    low, high = 0.0, math.inf
    at = abs(NormalDist().inv_cdf(0.5 * beyond))
    for _ in range(200):
        excess = two_sided_p(at, df) - beyond
        low, high = (at, high) if excess > 0 else (low, at)
        following = at + excess / (2.0 * _density(at, df))
        if not low <= following <= high:
            # Far out the density is so small that a step goes anywhere.
            following = 2.0 * at if math.isinf(high) else 0.5 * (low + high)
        if abs(following - at) <= 1e-15 * at:
            break
        at = following
    return at if probability > 0.5 else -at


def _density(t: float, df: float) -> float:
    scale = math.lgamma((df + 1.0) / 2.0) - math.lgamma(df / 2.0)
    power = -0.5 * (df + 1.0) * math.log1p(t * t / df)
    return math.exp(scale + power) / math.sqrt(df * math.pi)


def _incomplete_beta(a: float, b: float, t2: float, df: float) -> float:
    """Return I_x(a, b) at x = df / (df + t2)."""
    # 1 - x is computed by itself, and either one's logarithm from the smaller of both:
    # the other one has lost it to rounding.
    x, rest = df / (df + t2), t2 / (df + t2)
    if rest == 0.0:
        return 1.0
    log_x = math.log(x) if x < rest else math.log1p(-rest)
    front = math.exp(
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        + a * log_x
        + b * math.log(rest)
    )
    # The fraction converges quickly below the mean of the beta distribution alone.
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _continued_fraction(a, b, x) / a
    return 1.0 - front * _continued_fraction(b, a, rest) / b


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Evaluate the fraction of I_x(a, b) by Lentz's method (A. and S. 26.5.8)."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    found = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            found *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return found


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
