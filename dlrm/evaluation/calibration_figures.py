"""The chart of click rate against predicted probability, with its counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dlrm.evaluation.charts import Bar, Chart, Line, even_axis
from dlrm.metrics.calibration import ReliabilityBins, reliability_bins
from dlrm.metrics.intervals import wilson_interval
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.score_table import ScoreTable

_NUM_BARS = 24


def reliability_figure(
    table: ScoreTable,
    *,
    raw_bins: Sequence[Mapping[str, float]] = (),
    counted: bool = True,
) -> Chart:
    """Draw each bin's click rate against the probability that the model gave it.

    ``table`` is by logit. ``raw_bins`` are of the model's own probabilities, where
    those of ``table`` are corrected. With rows that are ``counted``, all of one weight,
    a click rate gets its Wilson interval. The bars below are how many rows there are at
    a probability.
    """
    bins = reliability_bins(table)
    points = _points(bins.mean_probability, bins.click_rate)
    raw = [(entry["mean_probability"], entry["click_rate"]) for entry in raw_bins]
    whiskers = _whiskers(bins) if counted else []
    highest = [max(point) for point in (*points, *raw)]
    top = max(*highest, *(high for _, high in whiskers), 0.0) or 1.0
    axis = even_axis("mean predicted probability", 0, top, percent=True)
    corrected = "corrected" if raw else "model"
    lines = [Line("perfectly calibrated", [(0, 0), (2, 2)], "reference")]
    if raw:
        lines.append(Line("as the model says", raw, "second", dots=True))
    line = Line(corrected, points, "first", dots=True, whiskers=whiskers)
    return Chart(
        key="reliability",
        title="Reliability",
        summary="Click rate against mean predicted probability in 20 bins of equal "
        "mass; on the diagonal, clicks come as often as promised. "
        + ("Upright lines are 95 % intervals. " if counted else "")
        + "Bars below: how many rows have such a probability.",
        x=axis,
        y=even_axis("click rate", 0, top, percent=True),
        lines=(*lines, line),
        bars=_support(table, axis.high),
    )


def _points(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _whiskers(bins: ReliabilityBins) -> list[tuple[float, float]]:
    pairs = zip(bins.click_rate.tolist(), bins.weight.tolist(), strict=True)
    return [wilson_interval(rate, weight) for rate, weight in pairs]


def _support(table: ScoreTable, high: float) -> tuple[Bar, ...]:
    """Return how the rows spread over [0, high] in bins of equal width."""
    edges = np.linspace(0, high, _NUM_BARS + 1)
    heights, _ = np.histogram(
        probabilities_from_logits(table.scores).clip(0, high),
        edges,
        weights=table.positives + table.negatives,
    )
    shares = heights / (heights.max() or 1.0)
    return tuple(
        Bar(float(edges[place]), float(edges[place + 1]), float(shares[place]))
        for place in range(_NUM_BARS)
    )
