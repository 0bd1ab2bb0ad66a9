"""The part of a report on what training could not know: new ids, and the future."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from dlrm.evaluation.page import Block, Cell, Column, Note, Section, Table
from dlrm.evaluation.terminal import format_value

_COLUMNS = (
    Column("Rows"),
    Column("Count", number=True),
    Column("Clicks", number=True),
    Column("AUC", number=True),
    Column("AUC, 95 %", number=True),
    Column("Log loss", number=True),
    Column("Calibration", number=True),
)


def cold_start_sections(slices: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the section of unseen ids and of training rows that are too late.

    ``slices`` is the content of slices.json.
    """
    blocks = [*_future(slices.get("future")), *_unseen(slices.get("cold_start"))]
    if blocks:
        yield Section("cold-start", "New to the model", blocks)


def _future(future: Mapping[str, Any] | None) -> Iterator[Block]:
    if future is None:
        return
    if not future["leaks"]:
        yield Note(
            "A forecast: no training row is later than the first row evaluated here."
        )
        return
    share = future["num_later"] / future["num_trained"]
    yield Note(
        f"Not a forecast: {future['num_later']:,} of {future['num_trained']:,} "
        f"training rows ({share:.1%}) are later than the first row evaluated here, of "
        f"{_moment(future['first_evaluated'])}; the last is of "
        f"{_moment(future['last_trained'])}."
    )


def _unseen(cold: Mapping[str, Any] | None) -> Iterator[Block]:
    if cold is None or not cold["features"]:
        return
    rows = [
        (
            Cell(str(entry["feature"])),
            Cell(f"{entry['num_ids']:,}", entry["num_ids"]),
            Cell(f"{entry['num_unseen']:,}", entry["num_unseen"]),
            _share(entry),
        )
        for entry in cold["features"]
    ]
    columns = (
        Column("Feature"),
        Column("Ids", number=True),
        Column("Unseen", number=True),
        Column("Share", number=True),
    )
    caption = "Ids of the evaluated rows, and those that no vocabulary of training has."
    yield Table("unseen-ids", caption, columns, rows, sortable=True)
    parts = list(_parts(cold))
    if parts:
        caption = "Rows with ids that training never saw, and rows without."
        yield Table("cold-start-metrics", caption, _COLUMNS, parts)


def _share(entry: Mapping[str, Any]) -> Cell:
    if entry["unknown"]:
        return Cell(f"unknown: {entry['unknown']}")
    share = entry["share"]
    return Cell("" if share is None else f"{share:.2%}", share)


def _parts(cold: Mapping[str, Any]) -> Iterator[Sequence[Cell]]:
    whole = cold["any"]
    if whole is not None and whole["unseen"]["rows"]:
        yield _cells("all ids known", whole["seen"])
        yield _cells("any id unseen", whole["unseen"])
    for entry in cold["features"]:
        if entry["unseen"] is not None:
            yield _cells(f"{entry['feature']} known", entry["seen"])
            yield _cells(f"{entry['feature']} unseen", entry["unseen"])


def _cells(name: str, support: Mapping[str, Any]) -> Sequence[Cell]:
    metrics, ends = support["metrics"], support["intervals"].get("auc")
    interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else ""
    return (
        Cell(name),
        Cell(f"{support['rows']:,}"),
        Cell(f"{support['positives']:,}"),
        Cell(format_value(metrics["auc"])),
        Cell(interval),
        Cell(format_value(metrics["log_loss"])),
        Cell(format_value(metrics["calibration"])),
    )


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
