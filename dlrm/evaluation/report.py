"""What the reports of all tasks share: their context, training curves and origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dlrm.evaluation.charts import Chart
from dlrm.evaluation.findings_section import findings_sections
from dlrm.evaluation.page import (
    Block,
    Cell,
    Column,
    Figures,
    Folded,
    Section,
    Table,
    draw_figure,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContext:
    """What a report says beside the metrics; all of it is printed, and escaped."""

    run: str
    """The run's name."""
    split: str
    """The split, or the name of the file evaluated."""
    model: str = ""
    checkpoint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The run's resolved config, nested."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """From the run's manifest: data fingerprint, versions, seed, device; nested."""
    history: Sequence[Mapping[str, Any]] = ()
    """The records of metrics.jsonl."""
    slices: Mapping[str, Any] | None = None
    """Content of slices.json."""
    recalibration: Mapping[str, Any] | None = None
    """Content of recalibration.json."""
    importance: Mapping[str, Any] | None = None
    """Content of importance.json."""
    embeddings: Mapping[str, Any] | None = None
    """Content of embeddings.json."""
    findings: Sequence[Mapping[str, Any]] = ()
    """Content of findings.json: what is wrong with the rows."""


def training_sections(charts: Sequence[Chart | None]) -> Iterator[Section]:
    """Yield the section of training curves, if there are any."""
    drawn = [draw_figure(chart) for chart in charts if chart is not None]
    if drawn:
        yield Section("training", "Training", (Figures(drawn),))


def origin_sections(context: ReportContext) -> Iterator[Section]:
    """Yield the findings, and data fingerprint and configuration where known."""
    yield from findings_sections(context.findings)
    blocks: list[Block] = []
    if context.provenance:
        caption = "Where model and data come from"
        blocks.append(pairs_table("provenance", caption, context.provenance))
    if context.config:
        caption = "The run's configuration, as resolved"
        table = pairs_table("config", caption, context.config)
        blocks.append(Folded("The whole configuration", (table,)))
    if blocks:
        yield Section("origin", "Data and configuration", blocks)


def lead(context: ReportContext, *, counts: str) -> str:
    """Return the line below a report's title: split, sizes, model, checkpoint."""
    parts = (
        f"Evaluated on {context.split}: {counts}",
        f"model {context.model}" if context.model else "",
        context.checkpoint,
    )
    return " · ".join(part for part in parts if part)


def pairs_table(key: str, caption: str, section: Mapping[str, Any]) -> Table:
    """Return a nested section as a table of dotted keys and values."""
    rows = [(Cell(name), Cell(value)) for name, value in flatten_section(section)]
    return Table(key, caption, (Column("Key"), Column("Value")), rows)


def flatten_section(
    section: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield dotted keys with their values' texts, in order."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten_section(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, " ".join(str(part) for part in value)
        elif isinstance(value, Enum):
            yield name, str(value.value)
        else:
            yield name, "" if value is None else str(value)
