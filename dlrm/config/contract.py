"""``data.checks``: how badly each kind of finding about the data is taken, and when.

One field a kind: what it measures stands below it, and its default threshold and
severity are its value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from dlrm.config.checks import require


class Severity(Enum):
    """What a finding does."""

    ignore = "ignore"
    """Nothing: it is neither printed nor stored."""
    warn = "warn"
    """It is printed once, stored and shown in the report."""
    error = "error"
    """The command stops with exit code 2."""


@dataclass(kw_only=True, slots=True)
class Check:
    """The limit of one kind of finding, and what crossing it does."""

    severity: Severity = Severity.warn
    threshold: float = 0.0
    """A finding measures more than this, and more than chance explains."""


def _check(threshold: float, severity: Severity = Severity.warn) -> Callable[[], Check]:
    return lambda: Check(severity=severity, threshold=threshold)


@dataclass(kw_only=True, slots=True)
class ChecksConfig:
    """Every kind of finding. "New rows" are another split, or those of ``input``."""

    missing_column: Check = field(default_factory=_check(0, Severity.error))
    """Columns of a feature that new rows lack; below ``error`` it counts as missing."""
    extra_column: Check = field(default_factory=_check(0))
    """Columns that the training files did not have."""
    column_type: Check = field(default_factory=_check(0))
    """Columns of another kind (text, numbers, lists) than the training files'."""
    out_of_range: Check = field(default_factory=_check(0.01))
    """Share of new values below the least or above the greatest of training."""
    new_categories: Check = field(default_factory=_check(0.1))
    """Share of new ids that training never saw, beyond the share to be expected."""
    dense_drift: Check = field(default_factory=_check(0.2))
    """Population stability index of a number's values against the training rows'."""
    categorical_drift: Check = field(default_factory=_check(0.2))
    """The same over the commonest ids of a feature and all others together."""
    label_shift: Check = field(default_factory=_check(0.25))
    """Difference of the click rates' log-odds; 0.25 is a rate a quarter higher."""
    missing_share: Check = field(default_factory=_check(0.05))
    """Difference of the shares of missing values."""
    duplicate_rows: Check = field(default_factory=_check(0.01))
    """Share of new rows that equal a training row in all features and the label."""
    duplicate_ids: Check = field(default_factory=_check(0))
    """Share of new rows whose ``id_column`` a training row has too."""
    constant_feature: Check = field(default_factory=_check(0))
    """1 for a feature with one value in all training rows."""
    label_leak: Check = field(default_factory=_check(0.999, Severity.error))
    """AUC of one feature alone on the training rows: 1 is the label itself."""
    time_overlap: Check = field(default_factory=_check(0.01))
    """Share of new rows that are older than the newest training row, where the split
    follows files or a column, or time."""
    time_order: Check = field(default_factory=_check(0, Severity.ignore))
    """Share of rows that are older than the row before them in their file."""

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A threshold is negative or no finite number.
        """
        for kind in dataclasses.fields(self):
            value = getattr(self, kind.name).threshold
            key = f"data.checks.{kind.name}.threshold"
            require(math.isfinite(value) and value >= 0, key, "a number >= 0", value)

    def of(self, kind: str) -> Check:
        """Return the check of a kind."""
        found: Check = getattr(self, kind)
        return found
