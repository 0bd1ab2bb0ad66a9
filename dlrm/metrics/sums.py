"""Sums over rows of which every metric that is a mean is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

import numpy as np

from dlrm.metrics.rows import Rows
from dlrm.metrics.score_table import ScoreTable
from dlrm.metrics.undefined import UndefinedMetricError

# A block of a few float64 temporaries stays in the second-level cache.
_ENTRIES_PER_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class ClickSums:
    """The mergeable state of log loss, its ratios, Brier score and calibration.

    Weighted sums over rows with logits: of 1, of labels, of probabilities, of log
    losses in nats, and of squared differences of probability and label. Two parts'
    sums add up to those of the whole, up to the rounding of float64, whatever the parts
    are: batches, ranks, slices. The methods give the metrics that the functions of
    their names define.
    """

    weight: float
    clicks: float
    promised: float
    loss: float
    squared_error: float

    def __add__(self, other: ClickSums) -> ClickSums:
        """Return the sums over both parts' rows."""
        return add_sums([self, other])

    def log_loss(self) -> float:
        """Return the mean log loss; see ``likelihood.log_loss``.

        Raises:
            UndefinedMetricError: No rows, or an infinite logit on the wrong side.
        """
        self._require_rows()
        if not math.isfinite(self.loss):
            raise UndefinedMetricError("an infinite logit on the wrong side")
        return self.loss / self.weight

    def normalized_entropy(self) -> float:
        """Return log loss over the entropy; see ``likelihood.normalized_entropy``.

        Raises:
            UndefinedMetricError: As ``log_loss``, and for one class.
        """
        self._require_rows()
        if not 0 < self.clicks < self.weight:
            raise UndefinedMetricError("one class")
        rate = self.clicks / self.weight
        entropy = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)
        return self.log_loss() / entropy

    def brier(self) -> float:
        """Return the mean squared error; see ``likelihood.brier``.

        Raises:
            UndefinedMetricError: No rows.
        """
        self._require_rows()
        return self.squared_error / self.weight

    def calibration(self) -> float:
        """Return promised clicks over clicks; see ``calibration.calibration``.

        Raises:
            UndefinedMetricError: No rows, or no click.
        """
        self._require_rows()
        if self.clicks == 0:
            raise UndefinedMetricError("no clicks")
        return self.promised / self.clicks

    def _require_rows(self) -> None:
        if self.weight <= 0:
            raise UndefinedMetricError("no rows")


def add_sums(parts: Iterable[ClickSums]) -> ClickSums:
    """Return the sums over all parts' rows; of no parts, zeros."""
    found = list(parts)
    return ClickSums(
        *(
            math.fsum(getattr(part, field.name) for part in found)
            for field in fields(ClickSums)
        )
    )


def sum_rows(rows: Rows) -> ClickSums:
    """Return the sums over rows whose scores are logits; nothing is sorted."""

    def block(start: int, stop: int) -> ClickSums:
        weights = 1.0 if rows.weights is None else rows.weights[start:stop]
        clicks = rows.labels[start:stop] * weights
        return _sum_entries(rows.scores[start:stop], clicks, weights - clicks)

    return _sum_blocks(len(rows.labels), block)


def sum_table(table: ScoreTable) -> ClickSums:
    """Return the sums over rows tabulated by logit: one logarithm a distinct logit."""

    def block(start: int, stop: int) -> ClickSums:
        part = slice(start, stop)
        return _sum_entries(
            table.scores[part], table.positives[part], table.negatives[part]
        )

    return _sum_blocks(len(table.scores), block)


def _sum_blocks(num_entries: int, block: Callable[[int, int], ClickSums]) -> ClickSums:
    starts = range(0, num_entries, _ENTRIES_PER_BLOCK)
    return add_sums(block(start, start + _ENTRIES_PER_BLOCK) for start in starts)


def _sum_entries(
    logits: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> ClickSums:
    """Sum over entries with the weight of either class at each; arrays [K]."""
    logits = logits.astype(np.float64)
    sizes = np.abs(logits)
    small = np.exp(-sizes)
    above = logits >= 0
    # -log of the probability of what happened: of the likelier class log(1 + small),
    # of the other one the logit's size more. Going by way of the probability would lose
    # it, which rounds to 1 long before its loss is 0. An infinite size counts where it
    # is wrong alone: times a weight of 0 it would be NaN.
    wrong = np.where(above, negatives, positives)
    right = np.where(above, positives, negatives)
    losses = np.log1p(small) * (right + wrong)
    losses += np.multiply(sizes, wrong, out=np.zeros_like(sizes), where=wrong > 0)
    rest = 1.0 / (1.0 + small)
    probabilities = np.where(above, rest, small * rest)
    missing = np.where(above, small * rest, rest)
    weights = right + wrong
    # Not np.dot: BLAS cuts sums by its number of threads, and the last bit with them.
    errors = positives * missing**2 + negatives * probabilities**2
    return ClickSums(
        weight=float(weights.sum()),
        clicks=float(positives.sum()),
        promised=float((weights * probabilities).sum()),
        loss=float(losses.sum()),
        squared_error=float(errors.sum()),
    )
