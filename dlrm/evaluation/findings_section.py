"""The part of a report on what is wrong with the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlrm.evaluation.page import Cell, Column, Section, Table

_COLUMNS = (
    Column("Finding"),
    Column("Feature"),
    Column("Rows"),
    Column("Measured", number=True),
    Column("Threshold", number=True),
    Column("What it means", remark=True),
)


def findings_sections(findings: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    """Yield the section of findings about the data; none where there are none.

    ``findings`` is the content of findings.json.
    """
    if not findings:
        return
    rows = [
        (
            Cell(str(found["kind"])),
            Cell(str(found["feature"])),
            Cell(str(found["rows"])),
            Cell(f"{found['value']:.4g}", found["value"]),
            Cell(f"{found['threshold']:.4g}", found["threshold"]),
            Cell(str(found["message"])),
        )
        for found in findings
    ]
    caption = "What the data contract found; data.checks sets what is a finding."
    table = Table("findings-table", caption, _COLUMNS, rows, sortable=True)
    yield Section("findings", "Findings about the data", (table,))
