"""What a new run took over from an old one: kept in its manifest, told to the user."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

_INDENT = " " * 8


@dataclass(slots=True)
class TableMapping:
    """What one table took over."""

    table: str
    num_rows: int
    num_mapped: int = 0
    """Rows that hold an old row's values."""
    num_dropped: int = 0
    """Old rows that no row took over."""
    not_mapped: str = ""
    """Why the whole table starts anew; empty where it does not."""
    has_state: bool = False
    """Whether its optimizer keeps state."""
    state_not_mapped: str = ""
    """Why that starts at zero; empty where it does not."""
    state_converted: str = ""
    """How it was converted; empty where it was not."""

    def describe(self) -> str:
        """Return the table's line."""
        if self.not_mapped:
            return f"{self.table}: not mapped, {self.not_mapped}"
        state = " with optimizer state" if self.has_state else ""
        if self.state_converted:
            state += f" ({self.state_converted})"
        if self.state_not_mapped:
            state = f" without optimizer state, {self.state_not_mapped}"
        new = self.num_rows - self.num_mapped
        return (
            f"{self.table}: {self.num_mapped:,} of {self.num_rows:,} rows mapped"
            f"{state}; {new:,} new; {self.num_dropped:,} old rows dropped"
        )


@dataclass(slots=True)
class ParameterMapping:
    """What everything but the tables took over."""

    mapped: list[str] = field(default_factory=list)
    not_mapped: dict[str, str] = field(default_factory=dict)
    """By name, with the reason."""
    dropped: list[str] = field(default_factory=list)
    """Tensors of the old run that have no counterpart."""
    state_not_mapped: str = ""
    """Why the dense optimizer starts anew; empty where it does not."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """All that a new run took over, and what it did not."""

    run: str
    checkpoint: str
    data_fingerprint: str
    tables: list[TableMapping]
    dropped_tables: list[str]
    parameters: ParameterMapping
    features_differ: bool
    """Dense layers may then read other inputs in the places of the old ones."""
    classes_differ: bool
    """The last layer may then give other classes in the places of the old ones."""

    def record(self) -> dict[str, Any]:
        """Return what the manifest keeps."""
        return dataclasses.asdict(self)

    def describe(self) -> list[str]:
        """Return the lines for the user."""
        dense = self.parameters
        mapped = sum(not table.not_mapped for table in self.tables)
        total = len(dense.mapped) + len(dense.not_mapped)
        head = (
            f"init    {self.run} ({self.checkpoint}): {mapped} of "
            f"{len(self.tables)} tables, {len(dense.mapped)} of {total} dense tensors"
        )
        lines = [table.describe() for table in self.tables]
        lines += [f"{name}: not mapped, {why}" for name, why in _sorted(dense)]
        if dense.state_not_mapped:
            lines.append(f"dense optimizer: starts anew, {dense.state_not_mapped}")
        if self.dropped_tables:
            lines.append(f"old tables dropped: {', '.join(self.dropped_tables)}")
        if dense.dropped:
            lines.append(f"old dense tensors dropped: {', '.join(dense.dropped)}")
        for differ, what in (
            (self.features_differ, "features"),
            (self.classes_differ, "classes"),
        ):
            if differ and dense.mapped:
                lines.append(
                    f"{what} or their order differ from the old run's: dense tensors "
                    f"are mapped by name and shape alone"
                )
        return [head, *(_INDENT + line for line in lines)]


def _sorted(dense: ParameterMapping) -> list[tuple[str, str]]:
    return sorted(dense.not_mapped.items())
