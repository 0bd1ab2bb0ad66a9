"""The part of a report on levels: do clicks come as often as promised?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dlrm.evaluation.calibration_figures import reliability_figure
from dlrm.evaluation.figures import histogram_figure
from dlrm.evaluation.page import (
    Block,
    Cell,
    Column,
    Figures,
    Note,
    Section,
    Table,
    draw_figure,
)
from dlrm.evaluation.tabulated import Tabulated
from dlrm.evaluation.terminal import format_value
from dlrm.metrics.calibration import ReliabilityBins, reliability_bins
from dlrm.metrics.intervals import wilson_interval

_DECILES = 10
_STEPS = {"log_keep_rate": "the logarithm of the keep rate added to the logit"}


def calibration_section(
    found: Tabulated, recalibration: Mapping[str, Any] | None
) -> Section:
    """Return reliability with counts, and what recalibration changed where it was done.

    ``recalibration`` is the content of recalibration.json.
    """
    rows = found.rows
    weights = np.ones(len(rows.labels)) if rows.weights is None else rows.weights
    charts = (
        reliability_figure(
            found.table,
            raw_bins=() if recalibration is None else recalibration["raw"]["bins"],
            counted=rows.weights is None,
        ),
        histogram_figure(rows.labels, rows.scores, weights),
    )
    blocks: list[Block] = [Figures([draw_figure(chart) for chart in charts])]
    if recalibration is not None:
        blocks += _recalibration(recalibration)
    bins = reliability_bins(found.table, num_bins=_DECILES)
    blocks.append(_decile_table(bins, counted=rows.weights is None))
    return Section("calibration", "Calibration", blocks)


def _decile_table(bins: ReliabilityBins, *, counted: bool) -> Table:
    columns = [
        Column("Predicted probability"),
        Column("Rows" if counted else "Weight of rows", number=True),
        Column("Promised", number=True),
        Column("Click rate", number=True),
        Column("Promised / clicks", number=True),
    ]
    caption = (
        "Rows in order of their predicted probability, cut into tenths of about equal "
        "mass; rows of one score stay together."
    )
    if counted:
        columns.insert(4, Column("95 % interval", number=True))
        caption += " Intervals of click rates are Wilson's, rows taken as independent."
    rows = [_decile(bins, place, counted=counted) for place in range(len(bins.weight))]
    return Table("deciles", caption, columns, rows)


def _decile(bins: ReliabilityBins, place: int, *, counted: bool) -> Sequence[Cell]:
    mean, rate = float(bins.mean_probability[place]), float(bins.click_rate[place])
    cells = [
        Cell(f"{bins.lowest[place]:.3%} to {bins.highest[place]:.3%}"),
        Cell(f"{bins.weight[place]:,.0f}"),
        Cell(f"{mean:.3%}"),
        Cell(f"{rate:.3%}"),
        Cell(f"{mean / rate:.3f}" if rate else "no clicks"),
    ]
    if counted:
        low, high = wilson_interval(rate, float(bins.weight[place]))
        cells.insert(4, Cell(f"{low:.3%} to {high:.3%}"))
    return cells


def _recalibration(found: Mapping[str, Any]) -> Iterator[Block]:
    steps = ", then ".join(_STEPS.get(step, step) for step in found["order"])
    where = f", fitted on {found['fitted_on']}" if found.get("fitted_on") else ""
    yield Note(
        f"All numbers of this report are of corrected probabilities: {steps}{where}. "
        f"What the model itself said is worth the following."
    )
    names = (("calibration", "Calibration"), ("ece", "ECE"), ("log_loss", "Log loss"))
    rows = [
        (
            Cell(title),
            *(Cell(format_value(found[side][name])) for side in ("raw", "calibrated")),
        )
        for name, title in names
    ]
    columns = (
        Column("Metric"),
        Column("As the model says", number=True),
        Column("Corrected", number=True),
    )
    yield Table("recalibration", "Before and after the correction.", columns, rows)
