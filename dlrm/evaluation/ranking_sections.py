"""The part of a report on order: ROC, precision, gain and lift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dlrm.evaluation.figures import pr_figure, roc_figure
from dlrm.evaluation.gain_figures import gain_figure, lift_figure
from dlrm.evaluation.page import Cell, Column, Figures, Section, Table, draw_figure
from dlrm.evaluation.tabulated import Tabulated
from dlrm.metrics.lift import GainCurve, gain_curve_of_table
from dlrm.metrics.ranking import pr_curve_of_table, roc_curve_of_table

_TENTHS = 10


def ranking_section(metrics: Mapping[str, Any], found: Tabulated) -> Iterator[Section]:
    """Yield the section, unless the rows are of one class."""
    if metrics["auc"] is None:
        return
    rate = found.rows.positive_weight / found.rows.total_weight
    gain = gain_curve_of_table(found.table)
    charts = (
        roc_figure(roc_curve_of_table(found.table), metrics["auc"]),
        pr_figure(pr_curve_of_table(found.table), metrics["pr_auc"], rate),
        gain_figure(gain, rate),
        lift_figure(gain, num_rows=len(found.rows.labels)),
    )
    drawn = Figures([draw_figure(chart) for chart in charts])
    yield Section("ranking", "Ranking", (drawn, _gain_table(gain, rate)))


def _gain_table(gain: GainCurve, rate: float) -> Table:
    """Return clicks by tenth of the rows, from the highest scores down."""
    edges = np.linspace(0, 1, _TENTHS + 1)
    captured = np.interp(edges, gain.shown, gain.captured)
    rows = []
    for number in range(_TENTHS):
        lift = (captured[number + 1] - captured[number]) * _TENTHS
        rows.append(
            (
                Cell(f"{edges[number]:.0%} to {edges[number + 1]:.0%}"),
                Cell(f"{lift * rate:.3%}", lift * rate),
                Cell(f"{lift:.2f}", lift),
                Cell(f"{captured[number + 1]:.1%}", captured[number + 1]),
            )
        )
    columns = (
        Column("Rows by score"),
        Column("Click rate", number=True),
        Column("Lift", number=True),
        Column("Clicks so far", number=True),
    )
    caption = (
        "Tenths of the rows from the highest scores down. Lift is the tenth's click "
        "rate over that of all rows; rows of one score are shared out evenly."
    )
    return Table("gain-table", caption, columns, rows)
