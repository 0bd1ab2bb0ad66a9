"""Charts of gain and lift: what showing the best rows alone would bring."""

from __future__ import annotations

import numpy as np

from dlrm.evaluation.charts import Chart, Line, even_axis
from dlrm.metrics.lift import GainCurve

_NUM_POINTS = 200


def gain_figure(curve: GainCurve, click_rate: float) -> Chart:
    """Draw the share of clicks captured by the share of rows shown."""
    shown = np.linspace(0, 1, _NUM_POINTS + 1)
    captured = np.interp(shown, curve.shown, curve.captured)
    points = list(zip(shown.tolist(), captured.tolist(), strict=True))
    return Chart(
        key="gain",
        title="Cumulative gain",
        summary=f"The share of all clicks among the rows with the highest scores. The "
        f"first tenth of the rows holds {curve.capture(0.1):.1%} of the clicks.",
        x=even_axis("share of rows, highest scores first", 0, 1, percent=True),
        y=even_axis("share of clicks", 0, 1, percent=True),
        lines=(
            Line("by lot", [(0, 0), (1, 1)], "reference"),
            Line("at best", [(0, 0), (click_rate, 1), (1, 1)], "second"),
            Line("model", points, "first", filled=True),
        ),
    )


def lift_figure(curve: GainCurve, *, num_rows: int) -> Chart:
    """Draw the click rate of the best rows over that of all, by how many they are.

    It begins at a hundredth of the rows, or at 50 rows: before that it is all noise.
    """
    first = min(max(0.01, 50 / num_rows), 1.0)
    shown = np.linspace(first, 1, _NUM_POINTS)
    lift = np.interp(shown, curve.shown, curve.captured) / shown
    points = list(zip(shown.tolist(), lift.tolist(), strict=True))
    return Chart(
        key="lift",
        title="Lift",
        summary=f"How many times the click rate of all rows those with the highest "
        f"scores have. In the first tenth it is {curve.capture(0.1) * 10:.2f} times.",
        x=even_axis("share of rows, highest scores first", 0, 1, percent=True),
        y=even_axis("lift", 0, max(1.0, float(lift.max()))),
        lines=(
            Line("by lot", [(0, 1), (1, 1)], "reference"),
            Line("model", points, "first"),
        ),
    )
