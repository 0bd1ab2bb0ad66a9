"""The columns of a report's tables on slices, each with its cell of an entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dlrm.evaluation.page import Cell, Column, Table
from dlrm.evaluation.terminal import format_value

_METRICS = (
    ("auc", "AUC"),
    ("normalized_entropy", "Normalized entropy"),
    ("log_loss", "Log loss"),
    ("calibration", "Calibration"),
)
_WITH_INTERVAL = ("auc", "calibration")


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and its cell of one entry of slices.json."""

    column: Column
    cell: Callable[[Mapping[str, Any]], Cell]


def table_of(
    key: str,
    caption: str,
    fields: Sequence[Field],
    entries: Sequence[Mapping[str, Any]],
) -> Table:
    """Return a table that sorts, of one row an entry."""
    columns = [field.column for field in fields]
    rows = [[field.cell(entry) for field in fields] for entry in entries]
    return Table(key, caption, columns, rows, sortable=True)


def dimension_fields(key: str) -> tuple[Field, ...]:
    """Return the columns of all slices by ``key``."""
    name = Field(Column(key), lambda entry: Cell(str(entry["name"])))
    return (name, _ROWS, _SHARE, _CLICKS, *_metric_fields())


def _metric_fields() -> Iterator[Field]:
    for name, title in _METRICS:
        yield Field(Column(title, number=True), partial(_metric, name))
        if name in _WITH_INTERVAL:
            column = Column(f"{title}, 95 %", number=True)
            yield Field(column, partial(_interval, name))


def _metric(name: str, entry: Mapping[str, Any]) -> Cell:
    value = entry["metrics"][name]
    return Cell("" if value is None else format_value(value), value)


def _interval(name: str, entry: Mapping[str, Any]) -> Cell:
    ends = entry["intervals"].get(name)
    if not ends:
        return Cell("")
    return Cell(f"{ends[0]:.4f} to {ends[1]:.4f}", ends[1] - ends[0])


def _number(title: str, key: str, form: str) -> Field:
    def cell(entry: Mapping[str, Any]) -> Cell:
        value = entry[key]
        return Cell("" if value is None else form.format(value), value)

    return Field(Column(title, number=True), cell)


def _slice(entry: Mapping[str, Any]) -> Cell:
    return Cell(f"{entry['dimension']} = {entry['slice']}")


def _test(entry: Mapping[str, Any]) -> Cell:
    return Cell(str(entry["test"]).replace("_", " "))


def _beyond(entry: Mapping[str, Any]) -> Cell:
    return Cell("yes" if entry["significant"] else "no")


_ROWS = _number("Rows", "rows", "{:,}")
_SHARE = _number("Share", "share", "{:.1%}")
_CLICKS = _number("Clicks", "positives", "{:,}")
_CHANCE = (
    _number("z", "z", "{:+.1f}"),
    _number("Corrected p", "p_adjusted", "{:.2g}"),
    Field(Column("Beyond chance"), _beyond),
)
WORST = (
    Field(Column("Slice"), _slice),
    Field(Column("Test"), _test),
    _ROWS,
    _CLICKS,
    _number("Promised", "promised", "{:,.0f}"),
    _number("Calibration", "calibration", "{:.3f}"),
    _number("Log loss", "log_loss", "{:.4f}"),
    *_CHANCE,
)
"""Slices that break the model's promises."""
WEAK = (
    Field(Column("Slice"), _slice),
    _ROWS,
    _CLICKS,
    _number("AUC", "auc", "{:.4f}"),
    _number("AUC of the rest", "auc_rest", "{:.4f}"),
    *_CHANCE,
)
"""Slices that are ranked worse than the rest."""
