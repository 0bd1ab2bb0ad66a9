"""The ``evaluation`` section: what an evaluation looks at beside the whole."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.checks import require
from dlrm.config.data import DataConfig
from dlrm.config.slices import SliceKind, SliceSpec, parse_slices

_MOST_VALUES = 10_000
"""Slices of a dimension are numbered in 16 bits."""


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """Slices of the evaluated rows, and the guard against rows of the future."""

    slices: list[str] | None = None
    """What to slice by: a column kept beside the rows, ``column*column``, ``time:day``,
    ``time:hour``, ``time:hour_of_day``, ``activity``, ``bucket:column:10``. Where not
    set: the kept columns, at most 12 of them; ``[]`` is none."""
    slice_values: int = 20
    """Values of a column, the most frequent ones, that are slices of their own; all
    others make up one slice."""
    slice_min_clicks: int = 30
    """Expected clicks, and expected other rows, that a slice needs to be judged."""
    slice_level: float = 0.05
    """Chance that any slice at all is called bad where every one is right."""
    rows_in_memory: int = 10_000_000
    """Rows of clicks judged in memory, some 600 bytes each. More are judged part by
    part through files: the same metrics, without intervals and slices."""
    forbid_future: bool = False
    """Refuse a split whose training rows are later than the rows it is judged on, by
    ``data.time_column``; otherwise that is reported."""

    def __post_init__(self) -> None:
        """Check ranges and forms, naming keys as typed.

        Raises:
            ConfigError: A value is out of range, or a slice is of no known form.
        """
        self.specs()
        key, level = "evaluation.slice_level", self.slice_level
        require(0 < level < 1, key, "in (0, 1)", level)
        for name in ("slice_values", "slice_min_clicks", "rows_in_memory"):
            value = getattr(self, name)
            require(value >= 1, f"evaluation.{name}", ">= 1", value)
        key, most, values = "evaluation.slice_values", _MOST_VALUES, self.slice_values
        require(values <= most, key, f"<= {most}", values)

    def specs(self) -> tuple[SliceSpec, ...] | None:
        """Return ``slices`` taken apart, None where not set."""
        if self.slices is None:
            return None
        return parse_slices(self.slices, key="evaluation.slices")

    def check_columns(self, data: DataConfig) -> None:
        """Refuse slices by what will not be kept, before any time is spent on it.

        Raises:
            ConfigError: A slice's column is none that is kept, or its time or group
                column is not set.
        """
        key = "evaluation.slices"
        future = self.forbid_future and data.time_column is None
        wanted = "false where data.time_column is not set"
        require(not future, "evaluation.forbid_future", wanted, self.forbid_future)
        kept = {data.id_column, data.group_column, data.time_column, *(data.keep or ())}
        if data.keep is None:
            features = data.sparse_features.items()
            kept |= {f.column or name for name, f in features if not f.multi_hot}
        for part in [part for spec in self.specs() or () for part in spec.parts]:
            if part.column:
                hint = f"Add {part.column} to data.keep."
                known = ", ".join(sorted(name for name in kept if name is not None))
                wanted = f"of columns that are kept ({known})"
                require(part.column in kept, key, wanted, repr(part.text), hint)
            elif part.kind is SliceKind.time:
                wanted = "without time: where data.time_column is not set"
                require(data.time_column is not None, key, wanted, repr(part.text))
            else:
                wanted = "without activity where data.group_column is not set"
                require(data.group_column is not None, key, wanted, repr(part.text))
