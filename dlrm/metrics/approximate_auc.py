"""AUC from a histogram: a state of fixed size, and a bound on its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.blocks import blocks
from dlrm.metrics.rows import check_rows
from dlrm.metrics.undefined import UndefinedMetricError

_FULL = 32


@dataclass(frozen=True, slots=True)
class BoundedAuc:
    """An AUC that the exact one differs from by at most ``max_error``."""

    value: float
    max_error: float


class AucHistogram:
    """A mergeable AUC in memory that no number of rows changes.

    A score's bin is the first bits of its float32, of negative ones inverted so that
    bins rise with scores: 16 bits are the sign, the exponent and 7 bits of the
    mantissa, so that the scores of a bin differ by less than 1 / 128 of themselves. No
    range has to be known before, and parts, ranks or days add up.

    Pairs of two bins are counted as they are. A pair within one bin is counted as one
    half and is really 0, 1/2 or 1, so the AUC is wrong by at most half the share of
    pairs that lie within bins. That is a bound, not an estimate: errors of either sign
    cancel, and the real one is far smaller. Float64 rounded to float32 keeps its order
    but for new ties, which share a bin: the bound holds.
    """

    def __init__(self, num_bits: int = 16) -> None:
        """Start without rows; the state takes 16 * 2 ** ``num_bits`` bytes.

        Raises:
            ValueError: ``num_bits`` is not in 9 to 24.
        """
        if not 9 <= num_bits <= 24:
            raise ValueError(
                f"num_bits must be 9 (sign and exponent) to 24 (256 MiB), but it is "
                f"{num_bits}."
            )
        self._num_bits = num_bits
        self._weights = np.zeros((2**num_bits, 2))

    def update(
        self, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Add rows; arrays [R], R at least 1.

        Raises:
            ValueError: Lengths differ, a label is not 0 or 1, a weight is negative or
                not finite.
            UndefinedMetricError: No row has a weight, or a score is NaN.
        """
        rows = check_rows(labels, scores, weights)
        each = 1.0
        if weights is not None and rows.weights is None:
            each = float(np.max(weights))
        for block in blocks(len(rows.labels)):
            bins = self._bins(rows.scores[block]) << 1
            bins |= rows.labels[block]
            of_block = None if rows.weights is None else rows.weights[block]
            counts = np.bincount(bins, of_block, minlength=self._weights.size)
            self._weights += each * counts.reshape(self._weights.shape)

    def _bins(self, scores: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            # -0.0 + 0.0 is 0.0, as the tie of the two must be.
            bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)
        rising = bits ^ ((bits >> (_FULL - 1)) & np.int32(0x7FFFFFFF))
        return (rising >> (_FULL - self._num_bits)) + np.int64(
            2 ** (self._num_bits - 1)
        )

    def merge(self, other: AucHistogram) -> None:
        """Add all rows of another state.

        Raises:
            ValueError: It has other bins.
        """
        if other._num_bits != self._num_bits:
            raise ValueError(
                f"Histograms must have the same num_bits to be merged, but one has "
                f"{self._num_bits} and the other {other._num_bits}."
            )
        self._weights += other._weights

    def compute(self) -> BoundedAuc:
        """Return the AUC of all rows so far and the most that it can be wrong by.

        Raises:
            UndefinedMetricError: No rows, or one class.
        """
        others, clicks = self._weights.T
        pairs = float(clicks.sum()) * float(others.sum())
        if pairs == 0:
            empty = not self._weights.any()
            raise UndefinedMetricError("no rows" if empty else "one class")
        below = np.cumsum(others) - others
        wins = float(np.sum(clicks * (below + 0.5 * others)))
        within = float(np.sum(clicks * others))
        # The rounding of sums in float64 on top.
        return BoundedAuc(wins / pairs, 0.5 * within / pairs + 1e-12)


def approximate_auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> BoundedAuc:
    """Return the AUC from 65,536 bins and its greatest error; see ``AucHistogram``.

    Raises:
        UndefinedMetricError: No rows, one class, or a NaN score.
    """
    state = AucHistogram()
    state.update(labels, scores, weights)
    return state.compute()
