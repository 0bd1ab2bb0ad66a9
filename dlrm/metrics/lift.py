"""How many of the clicks are among the rows that the model likes best?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm.metrics.rows import check_rows
from dlrm.metrics.score_table import ScoreTable, tabulate_scores
from dlrm.metrics.thresholds import quota_confusion_of_table
from dlrm.metrics.undefined import UndefinedMetricError

TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class GainCurve:
    """Points from (0, 0) to (1, 1), one per distinct score, falling; float64 [K + 1].

    The first ``shown[k]`` of all rows, by score, hold ``captured[k]`` of all clicks,
    both as shares of weight. Between two points the curve is straight: there lie the
    rows of a tie, and any part of them holds, in the mean over their orders, that part
    of its clicks. A model that knows nothing captures what it shows.
    """

    shown: np.ndarray
    captured: np.ndarray

    def capture(self, share: float) -> float:
        """Return the share of clicks among the first ``share`` of rows.

        Raises:
            ValueError: The share is outside (0, 1].
        """
        _check_share(share)
        return float(np.interp(share, self.shown, self.captured))

    def lift(self) -> LiftCurve:
        """Return the same against showing rows by lot."""
        return LiftCurve(self.shown[1:], self.captured[1:] / self.shown[1:])


@dataclass(frozen=True, slots=True)
class LiftCurve:
    """``lift[k]`` is the click rate of the first ``shown[k]`` rows over that of all.

    One point per distinct score, falling; float64 [K]. The last is (1, 1). The lift of
    other shares is ``capture(share) / share`` of the gain curve.
    """

    shown: np.ndarray
    lift: np.ndarray


def gain_curve(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> GainCurve:
    """Return the share of clicks captured by the share of rows shown.

    Raises:
        UndefinedMetricError: No rows, one class, or a NaN score.
    """
    return gain_curve_of_table(tabulate_scores(check_rows(labels, scores, weights)))


def gain_curve_of_table(table: ScoreTable) -> GainCurve:
    """Return the gain curve of tabulated rows; see ``gain_curve``.

    Raises:
        UndefinedMetricError: One class.
    """
    _require_both_classes(table)
    found = np.cumsum(np.append(0.0, table.positives[::-1]))
    shown = np.cumsum(np.append(0.0, (table.positives + table.negatives)[::-1]))
    return GainCurve(shown / shown[-1], found / found[-1])


def top_capture(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    share: float = TOP_SHARE,
) -> float:
    """Return the share of clicks among the tenth of rows with the highest scores.

    Who can act on a tenth of rows only asks for no more than this: it sees the top of
    the order alone. Both shares are of weight. Of a tie that the cut goes through, each
    row is in by the part that there is room for, so a constant model captures
    ``share``. At best it is 1, or ``share`` over the click rate where there are more
    clicks than room.

    Raises:
        ValueError: The share is outside (0, 1].
        UndefinedMetricError: No rows, one class, or a NaN score.
    """
    table = tabulate_scores(check_rows(labels, scores, weights))
    return top_capture_of_table(table, share=share)


def top_capture_of_table(table: ScoreTable, *, share: float = TOP_SHARE) -> float:
    """Return the capture of tabulated rows; see ``top_capture``."""
    _check_share(share)
    _require_both_classes(table)
    return min(quota_confusion_of_table(table, quota=share).recall(), 1.0)


def top_lift(
    labels: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    share: float = TOP_SHARE,
) -> float:
    """Return the click rate of the highest tenth of rows over that of all rows.

    That is ``top_capture`` over ``share``: 1 for a constant model, 1 / ``share`` at
    most.

    Raises:
        ValueError: The share is outside (0, 1].
        UndefinedMetricError: No rows, one class, or a NaN score.
    """
    return top_capture(labels, scores, weights, share=share) / share


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"A share of rows must be in (0, 1], but is {share}.")


def _require_both_classes(table: ScoreTable) -> None:
    if table.positives.sum() <= 0 or table.negatives.sum() <= 0:
        raise UndefinedMetricError("one class")
