"""Maps from a model's logits to logits that are right on average.

A map is fitted on rows that the model was not trained on, and says nothing about
features: what is wrong between two rows of one logit stays wrong. Logits go in and come
out, in float64, so that log loss needs no probability of 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dlrm.metrics.isotonic import isotonic_blocks
from dlrm.metrics.logistic_fit import fit_logistic
from dlrm.metrics.rows import Rows, check_rows
from dlrm.metrics.score_table import tabulate_scores
from dlrm.metrics.undefined import UndefinedMetricError


class Recalibrator(Protocol):
    """A map of logits that never falls; NaN stays NaN."""

    @property
    def strictly_monotone(self) -> bool:
        """Say whether logits that differ stay so: AUC is then what it was.

        Up to rounding: logits closer than float64 can tell apart beside the map's
        constant become equal.
        """
        ...

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return recalibrated logits, float64, of any shape."""
        ...

    def record(self) -> dict[str, Any]:
        """Return what ``recalibrator_from`` takes: plain JSON, ``method`` included."""
        ...


@dataclass(frozen=True, slots=True)
class Affine:
    """slope * z + intercept, with a slope above 0.

    ``platt`` has both (Platt 1999, section 2.2, without his smoothed labels, so that
    the promised clicks of the rows fitted are those that came); ``temperature`` has an
    intercept of 0 and the slope 1 / T (Guo et al. 2017, section 4.2).
    """

    method: str
    slope: float
    intercept: float = 0.0

    @property
    def strictly_monotone(self) -> bool:
        """Say that it is."""
        return True

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return recalibrated logits."""
        return self.slope * np.asarray(logits, dtype=np.float64) + self.intercept

    def record(self) -> dict[str, Any]:
        """Return the map as JSON."""
        return {
            "method": self.method,
            "slope": self.slope,
            "intercept": self.intercept,
        }


@dataclass(frozen=True, slots=True)
class Beta:
    """a ln p - b ln(1 - p) + c, with a and b at least 0 and not both 0.

    Of Kull et al. 2017, equation 1: what is right where the scores of either class
    follow a beta distribution. a = b is Platt's map; an a of its own bends the low
    end, b the high one. From the logit z, ln p = -softplus(-z) and ln(1 - p) =
    -softplus(z), so that nothing is lost at either end.
    """

    a: float
    b: float
    c: float

    @property
    def strictly_monotone(self) -> bool:
        """Say whether neither end is flat."""
        return self.a > 0 and self.b > 0

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return recalibrated logits."""
        low, high = _log_chances(np.asarray(logits, dtype=np.float64))
        found = np.full(low.shape, self.c)
        # 0 times an infinite logarithm is no number, where 0 is meant.
        for factor, part in ((self.a, low), (self.b, high)):
            if factor > 0:
                found = found + factor * part
        return np.where(np.isnan(low), np.nan, found)

    def record(self) -> dict[str, Any]:
        """Return the map as JSON."""
        return {"method": "beta", "a": self.a, "b": self.b, "c": self.c}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Probabilities at rising logits, straight lines between, level beyond the ends.

    A block of pooled logits has its lowest and its highest one as knots, so that all
    of it gets the block's click rate. Rows of different logits may so become equal:
    AUC then counts a tie where it counted an order.

    ``logits`` and ``probabilities`` are float64 [K], the former strictly rising, the
    latter rising and inside (0, 1).
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    @property
    def strictly_monotone(self) -> bool:
        """Say that it is not."""
        return False

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return recalibrated logits."""
        wide = np.asarray(logits, dtype=np.float64)
        found = np.interp(wide, self.logits, self.probabilities)
        return np.asarray(np.log(found) - np.log1p(-found))

    def record(self) -> dict[str, Any]:
        """Return the map as JSON."""
        return {
            "method": "isotonic",
            "logits": list(self.logits),
            "probabilities": list(self.probabilities),
        }


def fit_recalibrator(
    method: str,
    labels: np.ndarray,
    logits: np.ndarray,
    weights: np.ndarray | None = None,
) -> Recalibrator:
    """Fit the map of the largest weighted likelihood; arrays are [R].

    ``method`` is one of ``METHODS``. The same rows give the same map to the bit.

    Raises:
        ValueError: There is no such method, or the rows are malformed.
        UndefinedMetricError: No rows, one class, a logit that is not finite, logits
            that separate the classes, or that rank clicks no better than chance does;
            the message is the reason.
    """
    if method not in METHODS:
        raise ValueError(
            f"method must be one of {', '.join(METHODS)}, but it is {method!r}."
        )
    rows = check_rows(labels, logits, weights)
    rows.require_both_classes()
    num_bad = int(np.count_nonzero(~np.isfinite(rows.scores)))
    if num_bad:
        raise UndefinedMetricError(f"{num_bad} of {len(rows.scores)} logits not finite")
    rows = Rows(rows.labels, rows.scores.astype(np.float64), rows.weights)
    return METHODS[method](rows)


def recalibrator_from(record: Mapping[str, Any]) -> Recalibrator:
    """Return the map that ``record()`` described.

    Raises:
        ValueError: It describes none.
    """
    try:
        found = _read(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"A recalibrator must have {error}.") from error
    return found


def _read(record: Mapping[str, Any]) -> Recalibrator:
    method = record["method"]
    if method in ("platt", "temperature"):
        slope, intercept = float(record["slope"]), float(record["intercept"])
        _require(0 < slope < math.inf, "a finite slope above 0", slope)
        _require(math.isfinite(intercept), "a finite intercept", intercept)
        return Affine(method, slope, intercept)
    if method == "beta":
        a, b, c = (float(record[name]) for name in "abc")
        _require(min(a, b) >= 0 < max(a, b) < math.inf, "a, b >= 0, not both 0", (a, b))
        _require(math.isfinite(c), "a finite c", c)
        return Beta(a, b, c)
    _require(method == "isotonic", f"a method of {', '.join(METHODS)}", method)
    logits = np.asarray(record["logits"], dtype=np.float64)
    chances = np.asarray(record["probabilities"], dtype=np.float64)
    sound = logits.ndim == 1 and len(logits) > 0 and logits.shape == chances.shape
    _require(sound, "as many logits as probabilities", (logits.shape, chances.shape))
    rising = (np.diff(logits) > 0).all() and (np.diff(chances) >= 0).all()
    _require(bool(rising), "logits and probabilities that rise", "others")
    inside = bool(np.isfinite(logits).all() and chances[0] > 0 and chances[-1] < 1)
    _require(inside, "finite logits, probabilities inside (0, 1)", "others")
    return Isotonic(tuple(logits.tolist()), tuple(chances.tolist()))


def _require(sound: bool, wanted: str, came: object) -> None:
    if not sound:
        raise ValueError(f"A recalibrator must have {wanted}, but it has {came}.")


def _fit_platt(rows: Rows) -> Affine:
    _require_overlap(rows)
    ones = np.ones(len(rows.scores))
    slope, intercept = fit_logistic(rows, np.stack([rows.scores, ones], axis=1))
    return Affine("platt", _rising(float(slope)), float(intercept))


def _fit_temperature(rows: Rows) -> Affine:
    signed = np.where(rows.labels, rows.scores, -rows.scores)
    if signed.min() >= 0:
        raise UndefinedMetricError(
            "the sign of the logits separates the clicks from all other rows"
        )
    (slope,) = fit_logistic(rows, rows.scores[:, None])
    return Affine("temperature", _rising(float(slope)))


def _fit_beta(rows: Rows) -> Beta:
    """Fit a, b and c; where a or b would be below 0, the best map that has it at 0.

    The loss is convex: from a best point inside the bounds the way to the free
    minimum would lower it, so that the bound which the free minimum breaks is the one
    that binds.
    """
    _require_overlap(rows)
    low, high = _log_chances(rows.scores)
    ones = np.ones(len(low))
    try:
        a, b, c = fit_logistic(rows, np.stack([low, high, ones], axis=1)).tolist()
    except UndefinedMetricError:
        # A map that turns round may separate the classes; one that rises cannot.
        a = b = c = -1.0
    if a >= 0 and b >= 0:
        return Beta(a, b, c)
    candidates: list[tuple[float, Beta]] = []
    for is_low, part, broken in ((True, low, b), (False, high, a)):
        if broken >= 0:
            continue
        slope, constant = fit_logistic(rows, np.stack([part, ones], axis=1)).tolist()
        if slope > 0:
            found = Beta(slope if is_low else 0.0, 0.0 if is_low else slope, constant)
            candidates.append((_loss_of(rows, found), found))
    if not candidates:
        raise UndefinedMetricError(_NO_ORDER)
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _fit_isotonic(rows: Rows) -> Isotonic:
    """Fit the rising step function, kept off 0 and 1.

    A block without clicks gets half the weight of the lightest click over all weight,
    and one of clicks alone is as far below 1 by the lightest other row: below, and
    above, what any block of both classes can have, and one half over the number of
    rows where all weigh the same.
    """
    table = tabulate_scores(rows)
    starts, rates = isotonic_blocks(table)
    weights = np.ones(len(rows.labels)) if rows.weights is None else rows.weights
    lowest = 0.5 * float(weights[rows.labels].min()) / rows.total_weight
    highest = 1 - 0.5 * float(weights[~rows.labels].min()) / rows.total_weight
    rates = np.clip(rates, lowest, highest)
    lasts = np.append(starts[1:], len(table.scores)) - 1
    knots = np.stack([table.scores[starts], table.scores[lasts]], axis=1).ravel()
    # A block of one logit is one knot.
    single = np.concatenate([[True], knots[1:] > knots[:-1]])
    chances = np.repeat(rates, 2)[single]
    return Isotonic(tuple(knots[single].tolist()), tuple(chances.tolist()))


METHODS: dict[str, Callable[[Rows], Recalibrator]] = {
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
    "temperature": _fit_temperature,
    "beta": _fit_beta,
}
_NO_ORDER = "the logits rank clicks no better than chance does"


def _log_chances(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ln p and -ln(1 - p)."""
    tail = np.log1p(np.exp(-np.abs(logits)))
    return np.minimum(logits, 0.0) - tail, np.maximum(logits, 0.0) + tail


def _loss_of(rows: Rows, found: Recalibrator) -> float:
    logits = found.apply(rows.scores)
    wrong_way = np.where(rows.labels, -logits, logits)
    losses = np.maximum(wrong_way, 0.0) + np.log1p(np.exp(-np.abs(wrong_way)))
    return float(losses.sum() if rows.weights is None else rows.weights @ losses)


def _require_overlap(rows: Rows) -> None:
    clicked, passed = rows.scores[rows.labels], rows.scores[~rows.labels]
    if clicked.max() == clicked.min() == passed.max() == passed.min():
        raise UndefinedMetricError("all logits are equal")
    if clicked.min() >= passed.max() or passed.min() >= clicked.max():
        raise UndefinedMetricError("the logits separate the clicks from all other rows")


def _rising(slope: float) -> float:
    if not slope > 0:
        raise UndefinedMetricError(_NO_ORDER)
    return slope
