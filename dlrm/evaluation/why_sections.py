"""The part of a report on causes: what features are worth, and how tables fare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlrm.evaluation.forest import ForestRow, forest_figure
from dlrm.evaluation.page import (
    Block,
    Cell,
    Column,
    Figure,
    Figures,
    Note,
    Points,
    Section,
    Table,
)

_MIB = 2**20
_NUM_DRAWN = 20


def why_sections(
    importance: Mapping[str, Any] | None, embeddings: Mapping[str, Any] | None
) -> Iterator[Section]:
    """Yield what importance.json and embeddings.json hold, if they are there."""
    if importance is not None and importance["features"]:
        blocks = list(_importance(importance))
        yield Section("importance", "What the features are worth", blocks)
    if embeddings is not None and embeddings["tables"]:
        yield Section("embeddings", "Embedding tables", list(_embeddings(embeddings)))


def _importance(found: Mapping[str, Any]) -> Iterator[Block]:
    clusters = found["num_clusters"]
    together = f"; {clusters:,} groups of rows vary together" if clusters else ""
    yield Note(
        f"Importance is what the log loss gains, or the AUC loses, when a feature's "
        f"values are exchanged between rows: {found['repeats']} times over "
        f"{found['rows']:,} of {found['split_rows']:,} rows{together}. Features that "
        f"know the same hide each other."
    )
    drawn = [entry for entry in found["features"] if entry["log_loss"] is not None]
    if drawn:
        yield Figures([_importance_figure(drawn[:_NUM_DRAWN])])
    yield _importance_table(found["features"])
    if found["prune"]:
        items = [_prune_text(entry) for entry in found["prune"]]
        yield Points("To prune, first things first, one at a time", items)


def _importance_figure(entries: Sequence[Mapping[str, Any]]) -> Figure:
    rows = [
        ForestRow(
            name=str(entry["feature"]),
            value=entry["log_loss"]["change"],
            low=entry["log_loss"]["low"],
            high=entry["log_loss"]["high"],
            style="reference" if entry["log_loss"]["covers_zero"] else "first",
        )
        for entry in entries
    ]
    return forest_figure(
        rows,
        key="importance-forest",
        title="Importance by log loss",
        summary="What the log loss gains without a feature's own values, with its 95 % "
        "interval; at 0 the feature is worth nothing by itself.",
        axis_label="change in log loss",
    )


def _importance_table(entries: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("Feature"),
        Column("Log loss", number=True),
        Column("95 % interval", number=True),
        Column("AUC", number=True),
        Column("Lookups a row", number=True),
        Column("Tables, MiB", number=True),
        Column("Log loss per MiB", number=True),
    )
    rows = [_importance_cells(entry) for entry in entries]
    caption = (
        "Every feature, with what its tables take. Per MiB counts what would be freed."
    )
    return Table("importance-table", caption, columns, rows, sortable=True)


def _importance_cells(entry: Mapping[str, Any]) -> list[Cell]:
    loss, area, gain = entry["log_loss"], entry["auc"], entry["gain_per_mib"]
    size = entry["bytes"] / _MIB
    interval = Cell("")
    if loss is not None:
        text = f"{loss['low']:+.6f} to {loss['high']:+.6f}"
        interval = Cell(text, loss["low"])
    return [
        Cell(str(entry["feature"])),
        _number(None if loss is None else loss["change"], "{:+.6f}", "undefined"),
        interval,
        _number(None if area is None else area["change"], "{:+.5f}", "undefined"),
        _number(entry["lookups_per_row"], "{:,.2f}"),
        _number(size, "{:,.3f}") if size else Cell("", 0.0),
        _number(gain, "{:+.2e}"),
    ]


def _prune_text(entry: Mapping[str, Any]) -> str:
    freed = entry["freed_bytes"]
    text = f"{freed / _MIB:,.2f} MiB" if freed >= _MIB else f"{freed / 1024:,.2f} KiB"
    frees = f"; frees {text}" if freed else ""
    return f"{entry['feature']}: {entry['reason']}{frees}"


def _embeddings(found: Mapping[str, Any]) -> Iterator[Block]:
    yield _table_of_tables(found["tables"])
    yield Note(
        "Untrained rows are, bit for bit, their initial value; dead ones are zero or "
        "nearly so. A rank far below the width says that a narrower table would do."
    )
    if found["warnings"]:
        yield Points("Look at", list(found["warnings"]))


def _table_of_tables(entries: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("Table"),
        Column("Rows", number=True),
        Column("Width", number=True),
        Column("MiB", number=True),
        Column("Untrained", number=True),
        Column("Median norm", number=True),
        Column("Dead", number=True),
        Column("Repeated", number=True),
        Column("Rank", number=True),
    )
    rows = [_health_cells(entry) for entry in entries]
    caption = "Every embedding table of the checkpoint, with its optimizer's state."
    return Table("health", caption, columns, rows, sortable=True)


def _health_cells(entry: Mapping[str, Any]) -> list[Cell]:
    norms = entry["norms"] or {}
    return [
        Cell(str(entry["table"])),
        _number(entry["rows"], "{:,}"),
        _number(entry["dim"], "{}"),
        _number((entry["weight_bytes"] + entry["state_bytes"]) / _MIB, "{:,.2f}"),
        _number(entry["never_trained"], "{:,}", "unknown"),
        _number(norms.get("median"), "{:.3g}"),
        _number(entry["zero_rows"] + entry["tiny_rows"], "{:,}"),
        _number(entry["duplicate_rows"], "{:,}"),
        _number(entry["effective_rank"], "{:.1f}"),
    ]


def _number(value: float | None, form: str, missing: str = "") -> Cell:
    return Cell(missing if value is None else form.format(value), value)
