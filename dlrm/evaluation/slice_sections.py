"""The part of a report on slices: where the model is bad, and every slice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlrm.evaluation.cold_start_section import cold_start_sections
from dlrm.evaluation.page import Block, Cell, Column, Folded, Note, Section, Table
from dlrm.evaluation.terminal import format_value

_METRICS = (
    ("auc", "AUC"),
    ("normalized_entropy", "Normalized entropy"),
    ("log_loss", "Log loss"),
    ("calibration", "Calibration"),
)
_WITH_INTERVAL = ("auc", "calibration")


def slice_sections(slices: Mapping[str, Any] | None) -> Iterator[Section]:
    """Yield the sections of slices and of new ids.

    ``slices`` is the content of slices.json, if any.
    """
    if slices is None:
        return
    if slices["dimensions"]:
        yield Section("slices", "Slices", list(_blocks(slices)))
    yield from cold_start_sections(slices)


def _blocks(slices: Mapping[str, Any]) -> Iterator[Block]:
    yield Note(_verdict(slices))
    if slices["worst"]:
        yield _worst_table(slices["worst"])
    if slices["weak_ranking"]:
        yield _weak_table(slices["weak_ranking"])
    for number, dimension in enumerate(slices["dimensions"]):
        slice_table = _dimension_table(number, dimension)
        count = len(dimension["slices"])
        title = f"All slices by {dimension['key']} ({count:,})"
        yield Folded(title, (slice_table,))
    units = "groups" if slices["errors"] == "groups" else "rows"
    yield Note(
        f"Intervals are of 95 %, {units} taken as independent, each slice for itself. "
        f"A slice with fewer than {slices['min_clicks']:,} expected clicks, or other "
        f"rows, is not tested."
    )
    for entry in slices.get("skipped", ()):
        yield Note(f"Not sliced by {entry['key']}: {entry['reason']}.")


def _verdict(slices: Mapping[str, Any]) -> str:
    bad = [entry for entry in slices["worst"] if entry["significant"]]
    tests = f"{slices['num_tests']:,} tests"
    chance = f"{slices['level']:.0%} chance of any false alarm at all"
    if not bad:
        return (
            f"No slice breaks the model's promises by more than chance explains: "
            f"{tests}, corrected for their number, {chance}."
        )
    first = bad[0]
    many = f"{len(bad)} findings are" if len(bad) > 1 else "1 finding is"
    return (
        f"{many} more than chance explains ({tests}, corrected for their number, "
        f"{chance}). The worst is {first['dimension']} = {first['slice']}: "
        f"{first['sentence'].rstrip('.')}."
    )


def _worst_table(worst: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("Slice"),
        Column("Test"),
        Column("Rows", number=True),
        Column("Clicks", number=True),
        Column("Promised", number=True),
        Column("Calibration", number=True),
        Column("Log loss", number=True),
        Column("z", number=True),
        Column("Corrected p", number=True),
        Column("Beyond chance"),
    )
    rows = [
        (
            Cell(_name(entry)),
            Cell(str(entry["test"]).replace("_", " ")),
            _count(entry["rows"]),
            _count(entry["positives"]),
            _number(entry["promised"], "{:,.0f}"),
            _number(entry["calibration"], "{:.3f}"),
            _number(entry["log_loss"], "{:.4f}"),
            _number(entry["z"], "{:+.1f}"),
            _number(entry["p_adjusted"], "{:.2g}"),
            Cell("yes" if entry["significant"] else "no"),
        )
        for entry in worst
    ]
    caption = (
        "The worst slices: where clicks, or the log loss, are furthest from what the "
        "model's own probabilities promise. p is corrected for all looks."
    )
    return Table("worst-slices", caption, columns, rows, sortable=True)


def _weak_table(weak: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("Slice"),
        Column("Rows", number=True),
        Column("Clicks", number=True),
        Column("AUC", number=True),
        Column("AUC of the rest", number=True),
        Column("z", number=True),
        Column("Corrected p", number=True),
        Column("Beyond chance"),
    )
    rows = [
        (
            Cell(_name(entry)),
            _count(entry["rows"]),
            _count(entry["positives"]),
            _number(entry["auc"], "{:.4f}"),
            _number(entry["auc_rest"], "{:.4f}"),
            _number(entry["z"], "{:+.1f}"),
            _number(entry["p_adjusted"], "{:.2g}"),
            Cell("yes" if entry["significant"] else "no"),
        )
        for entry in weak
    ]
    caption = (
        "Ranked worse than all other rows. A slice of rows that are alike is harder to "
        "rank, whoever does it."
    )
    return Table("weak-slices", caption, columns, rows, sortable=True)


def _dimension_table(number: int, dimension: Mapping[str, Any]) -> Table:
    columns = [Column(str(dimension["key"])), Column("Rows", number=True)]
    columns += [Column("Share", number=True), Column("Clicks", number=True)]
    for name, title in _METRICS:
        columns.append(Column(title, number=True))
        if name in _WITH_INTERVAL:
            columns.append(Column(f"{title}, 95 %", number=True))
    rows = [_slice_cells(entry) for entry in dimension["slices"]]
    caption = f"Every slice by {dimension['key']}; together they are all rows."
    return Table(f"slices-{number}", caption, columns, rows, sortable=True)


def _slice_cells(entry: Mapping[str, Any]) -> list[Cell]:
    cells = [
        Cell(str(entry["name"])),
        _count(entry["rows"]),
        _number(entry["share"], "{:.1%}"),
        _count(entry["positives"]),
    ]
    for name, _ in _METRICS:
        value = entry["metrics"][name]
        cells.append(Cell("" if value is None else format_value(value), value))
        if name in _WITH_INTERVAL:
            ends = entry["intervals"].get(name)
            text = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
            cells.append(Cell(text, ends[1] - ends[0] if ends else None))
    return cells


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['dimension']} = {entry['slice']}"


def _count(value: int) -> Cell:
    return Cell(f"{value:,}", value)


def _number(value: float | None, form: str) -> Cell:
    return Cell("" if value is None else form.format(value), value)
