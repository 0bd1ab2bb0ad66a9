"""Explanations as tables for a terminal of 100 columns."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

WIDTH = 100
KIB, MIB, GIB = 2**10, 2**20, 2**30
_NUM_PRUNED = 10


def format_importance(found: Mapping[str, Any], *, top: int = 50) -> str:
    """Return ``measure_importance``'s content as text, no newline at its end."""
    table = _table("feature")
    for name in ("log loss", "95 % interval", "AUC", "lookups", "tables", "per MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in found["features"][:top]:
        table.add_row(Text(shown(entry["feature"])), *_importance_cells(entry))
    left = len(found["features"]) - top
    lines: list[RenderableType] = [table]
    if left > 0:
        lines.append(Text(f"{left:,} more features with less are in importance.json."))
    lines += [Text(line) for line in _importance_notes(found)]
    return _render(lines)


def format_health(found: Mapping[str, Any]) -> str:
    """Return ``check_health``'s content as text, no newline at its end."""
    table = _table("table")
    for name in (
        "rows", "dim", "size", "untrained", "norm p1", "median", "p99", "dead",
        "equal", "rank",
    ):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    for entry in found["tables"]:
        table.add_row(Text(shown(entry["table"])), *_health_cells(entry))
    lines: list[RenderableType] = [table]
    for entry in found["tables"]:
        if entry["collisions"] is not None:
            lines.append(Text(_collision_line(entry)))
        for key, reason in entry["unknown"].items():
            text = f"{shown(entry['table'])}: {key} is not known, as {reason}."
            lines.append(Text(text))
    lines += [Text(f"Look at {shown(text)}.") for text in found["warnings"]]
    return _render(lines)


def format_row(found: Mapping[str, Any], *, top: int = 50) -> str:
    """Return one row's explanation as text, no newline at its end."""
    table = _table("feature")
    table.add_column("value", overflow="fold", max_width=36)
    table.add_column("adds to the logit", justify="right", no_wrap=True)
    table.add_column("+-", justify="right", no_wrap=True)
    for entry in found["features"][:top]:
        value = entry["value"] if entry["raw"] is None else entry["raw"]
        table.add_row(
            Text(shown(entry["feature"])),
            Text(shown(value)),
            f"{entry['contribution']:+.4f}",
            f"{entry['standard_error']:.4f}",
        )
    rest = found["features"][top:]
    if rest:
        added = sum(entry["contribution"] for entry in rest)
        table.add_row(f"{len(rest):,} others", "", f"{added:+.4f}", "")
    total = found["logit"] - found["mean_logit"]
    return _render(
        [
            Text(
                f"Probability {found['probability']:.5f}, logit {found['logit']:+.4f}"
                + ("" if found["label"] is None else f", label {found['label']:g}")
            ),
            Text(
                f"{found['background_rows']:,} rows of {found['background']} have a "
                f"mean logit of {found['mean_logit']:+.4f}; the features add "
                f"{total:+.4f}:"
            ),
            table,
        ]
    )


def shown(name: str) -> str:
    """Return a name with characters that a terminal would obey written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def _importance_cells(entry: Mapping[str, Any]) -> list[str]:
    loss, area = entry["log_loss"], entry["auc"]
    interval = "undefined"
    if loss is not None:
        interval = f"[{loss['low']:+.6f}, {loss['high']:+.6f}]"
    gain = entry["gain_per_mib"]
    return [
        "undefined" if loss is None else f"{loss['change']:+.6f}",
        interval,
        "undefined" if area is None else f"{area['change']:+.5f}",
        f"{entry['lookups_per_row']:,.2f}",
        format_bytes(entry["bytes"]) if entry["bytes"] else "",
        "" if gain is None else f"{gain:+.2e}",
    ]


def _importance_notes(found: Mapping[str, Any]) -> list[str]:
    rows, total = found["rows"], found["split_rows"]
    drawn = "all" if rows == total else f"{rows:,} of {total:,}"
    together = ""
    if found["num_clusters"] is not None:
        together = f", which vary in {found['num_clusters']:,} groups"
    notes = [
        f"What the log loss gains and the AUC loses when a feature's values are "
        f"exchanged between rows: {found['repeats']} times over {drawn} rows"
        f"{together}."
    ]
    if not found["prune"]:
        return notes
    notes.append(
        "To prune, first things first, one at a time: features that know the same hide "
        "each other."
    )
    for entry in found["prune"][:_NUM_PRUNED]:
        freed = entry["freed_bytes"]
        frees = f"; frees {format_bytes(freed)}" if freed else ""
        notes.append(f"  {shown(entry['feature'])}: {entry['reason']}{frees}")
    left = len(found["prune"]) - _NUM_PRUNED
    if left > 0:
        notes.append(f"  and {left:,} more in importance.json")
    return notes


def _health_cells(entry: Mapping[str, Any]) -> list[str]:
    untrained, norms = entry["never_trained"], entry["norms"] or {}
    rank = entry["effective_rank"]
    return [
        f"{entry['rows']:,}",
        str(entry["dim"]),
        format_bytes(entry["weight_bytes"] + entry["state_bytes"]),
        "?" if untrained is None else f"{untrained:,}",
        *(f"{norms[key]:.2e}" if norms else "" for key in ("p01", "median", "p99")),
        f"{entry['zero_rows'] + entry['tiny_rows']:,}",
        f"{entry['duplicate_rows']:,}",
        "" if rank is None else f"{rank:.1f}",
    ]


def _collision_line(entry: Mapping[str, Any]) -> str:
    found = entry["collisions"]
    used = f"{found['used_buckets']:,} of {found['buckets']:,} hashed rows are in use"
    if found["expected_ids"] is None:
        return f"{shown(entry['table'])}: {used}; the ids are too many to be estimated."
    return (
        f"{shown(entry['table'])}: {used}, by about {found['expected_ids']:,.0f} ids, "
        f"{found['share_of_ids_colliding']:.1%} of which share a row."
    )


def format_bytes(size: float) -> str:
    """Return bytes in the largest unit that they fill."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if size >= unit:
            return f"{size / unit:,.2f} {name}"
    return f"{size / KIB:,.2f} KiB"


def _table(first: str) -> Table:
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True
    )
    table.add_column(first, overflow="fold", min_width=8, max_width=28)
    return table


def _render(parts: Sequence[RenderableType]) -> str:
    console = Console(
        width=WIDTH, file=io.StringIO(), force_terminal=False, color_system=None
    )
    for part in parts:
        console.print(part, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
