"""The report's charts, from predictions and a run's history."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from dlrm.evaluation.charts import Axis, Chart, Line, Point, even_axis
from dlrm.metrics.link import probabilities_from_logits
from dlrm.metrics.ranking import PrCurve, RocCurve

_MAX_POINTS = 240
_NUM_HISTOGRAM_BINS = 48
_PROBABILITY_TICKS = (
    1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999,
)  # fmt: skip

History = Sequence[Mapping[str, Any]]


def roc_figure(curve: RocCurve, auc: float) -> Chart:
    """Draw the ROC curve, thinned to points evenly spaced along it."""
    x, y = curve.false_positive_rate, curve.true_positive_rate
    # Every step moves right or up, so x + y runs from 0 to 2 along the curve.
    points = _spread(x, y, along=x + y)
    return Chart(
        key="roc",
        title="ROC curve",
        summary=f"True against false positive rate; the area below is {auc:.5f}.",
        x=even_axis("false positive rate", 0, 1, percent=True),
        y=even_axis("true positive rate", 0, 1, percent=True),
        lines=(
            Line("coin toss", [(0, 0), (1, 1)], "reference"),
            Line("model", points, "first", filled=True),
        ),
    )


def pr_figure(curve: PrCurve, pr_auc: float, click_rate: float) -> Chart:
    """Draw precision against recall, thinned to points evenly spaced in recall."""
    points = _spread(curve.recall, curve.precision, along=curve.recall)
    return Chart(
        key="precision-recall",
        title="Precision and recall",
        summary=f"The share of clicks among the rows shown, against the share of all "
        f"clicks among them; average precision is {pr_auc:.5f}.",
        x=even_axis("recall", 0, 1, percent=True),
        y=even_axis("precision", 0, max(y for _, y in points), percent=True),
        lines=(
            Line("click rate", [(0, click_rate), (1, click_rate)], "reference"),
            Line("model", points, "first"),
        ),
    )


def histogram_figure(
    clicks: np.ndarray, logits: np.ndarray, weights: np.ndarray
) -> Chart:
    """Draw how the scores of clicks and of other rows spread, each adding to 100 %.

    The scale is even in the logit, since most click probabilities crowd near zero;
    scores beyond the outer thousandths of a class stand in the outer bins.
    """
    finite = logits.astype(np.float64).clip(-30, 30)
    classes = [finite[chosen] for chosen in (clicks, ~clicks) if chosen.any()]
    low = min(float(np.quantile(scores, 0.001)) for scores in classes)
    high = max(float(np.quantile(scores, 0.999)) for scores in classes)
    if high - low < 0.5:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _NUM_HISTOGRAM_BINS + 1)
    lines = []
    for name, chosen, style in (
        ("rows without a click", ~clicks, "second"),
        ("clicks", clicks, "first"),
    ):
        heights, _ = np.histogram(
            finite[chosen].clip(low, high), edges, weights=weights[chosen].astype(float)
        )
        shares = heights / (heights.sum() or 1.0)
        lines.append(Line(name, _steps(edges, shares), style, filled=True))
    top = max(y for line in lines for _, y in line.points)
    return Chart(
        key="histogram",
        title="Predicted probabilities by outcome",
        summary="Share of clicks and of other rows by predicted probability; the "
        "further apart the two shapes, the better the model tells them apart.",
        x=_logit_axis("predicted probability (log-odds scale)", low, high),
        y=even_axis("share of the class", 0, top, percent=True),
        lines=tuple(lines),
    )


def loss_figure(history: History, bayes_log_loss: float | None) -> Chart | None:
    """Draw training loss and validation log loss by step; None without history."""
    train = _series(history, "loss", split=None)
    valid = _series(history, "log_loss", split="valid")
    return _history_figure(
        "loss",
        "Loss by training step",
        "log loss",
        (
            Line("training", _thin(train), "second"),
            Line("validation", _thin(valid), "first", dots=len(valid) <= 40),
        ),
        bayes_log_loss,
    )


def auc_figure(history: History, bayes_auc: float | None) -> Chart | None:
    """Draw validation AUC by step; None without a history."""
    valid = _series(history, "auc", split="valid")
    line = Line("validation", _thin(valid), "first", dots=len(valid) <= 40)
    return _history_figure(
        "auc-curve", "AUC by training step", "AUC", (line,), bayes_auc
    )


def _history_figure(
    key: str, title: str, label: str, lines: tuple[Line, ...], bound: float | None
) -> Chart | None:
    lines = tuple(line for line in lines if line.points)
    steps = [x for line in lines for x, _ in line.points]
    if not steps:
        return None
    x_axis = even_axis("step", min(0, *steps), max(steps))
    # The first steps fall so far that they would flatten all that comes after.
    settled = 0.05 * max(steps)
    values = [y for line in lines for x, y in line.points if x >= settled]
    if bound is not None:
        values.append(bound)
        ends: list[Point] = [(x_axis.low, bound), (x_axis.high, bound)]
        lines = (*lines, Line("Bayes bound of the evaluated split", ends, "reference"))
    y_axis = even_axis(label, min(values), max(values))
    return Chart(
        key=key,
        title=title,
        summary=f"{title}, to step {max(steps):,.0f}. The frame is chosen without the "
        "first twentieth of the steps; what lies outside it is cut off.",
        x=x_axis,
        y=y_axis,
        lines=tuple(_inside(line, y_axis) for line in lines),
    )


def _inside(line: Line, y_axis: Axis) -> Line:
    # Ends of the axis are multiples of a step, and so off by rounding.
    slack = 1e-9 * (y_axis.high - y_axis.low)
    low, high = y_axis.low - slack, y_axis.high + slack
    points = [(x, y) for x, y in line.points if low <= y <= high]
    return dataclasses.replace(line, points=points)


def _series(history: History, name: str, *, split: str | None) -> list[Point]:
    points = []
    for record in history:
        step, value = record.get("step"), record.get(name)
        if record.get("split") == split and _is_number(step) and _is_number(value):
            points.append((float(step), float(value)))
    return points


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _thin(points: list[Point]) -> list[Point]:
    kept = points[:: max(1, math.ceil(len(points) / _MAX_POINTS))]
    # The last point is where training ended; it must not be thinned away.
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _spread(x: np.ndarray, y: np.ndarray, *, along: np.ndarray) -> list[Point]:
    """Keep points evenly spaced in the rising ``along``, both ends included."""
    if len(x) > _MAX_POINTS:
        wanted = np.linspace(along[0], along[-1], _MAX_POINTS)
        places = np.unique(np.searchsorted(along, wanted).clip(max=len(x) - 1))
        x, y = x[places], y[places]
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _steps(edges: np.ndarray, heights: np.ndarray) -> list[Point]:
    sides: Iterable[Point] = zip(
        np.repeat(edges, 2)[1:-1].tolist(), np.repeat(heights, 2).tolist(), strict=True
    )
    return list(sides)


def _logit_axis(label: str, low: float, high: float) -> Axis:
    found: list[tuple[float, str]] = []
    for probability in _PROBABILITY_TICKS:
        logit = math.log(probability / (1 - probability))
        far = not found or logit - found[-1][0] >= 0.14 * (high - low)
        if low <= logit <= high and far:
            found.append((logit, f"{probability * 100:g}%"))
    if len(found) < 2:
        ends = probabilities_from_logits(np.array([low, high]))
        found = [
            (value, f"{probability:.2%}")
            for value, probability in zip((low, high), ends, strict=True)
        ]
    return Axis(label, low, high, tuple(found))
