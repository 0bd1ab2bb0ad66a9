"""Which raw columns a data config reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlrm.config.contract import Severity
from dlrm.config.data import DataConfig, Split
from dlrm.config.features import Encoding
from dlrm.config.labels import LabelKind
from dlrm.kernels.text_library import ColumnKind


@dataclass(frozen=True, slots=True)
class NeededColumns:
    """Raw columns by name, each once."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    """Read where they exist."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """The setting that names each column."""

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, the required ones first."""
        return self.required + self.optional

    def present(self, found: list[str] | tuple[str, ...]) -> list[str]:
        """List those to read of a file that has the columns ``found``."""
        return [*self.required, *(name for name in self.optional if name in found)]


def needed_columns(data: DataConfig, *, with_labels: bool) -> NeededColumns:
    """List the columns that ``data`` names.

    Rows that are only to be scored (``with_labels`` false) need their features, their
    keep rate and their id; label, weight, group, time and kept columns are read where
    they exist, and features too where ``data.checks.missing_column`` is no error.
    """
    label, row_id = [("data.label", data.label)], [("data.id_column", data.id_column)]
    about, features = _about_rows(data), _of_features(data)
    # Without it a row's true probability cannot be told.
    features.append(("data.keep_rate_column", data.keep_rate_column))
    if with_labels:
        first, last = [*label, *row_id, *about, *features], []
    elif data.checks.missing_column.severity is not Severity.error:
        first, last = [*row_id], [*label, *about, *features]
    else:
        first, last = [*row_id, *features], [*label, *about]
    required = dict.fromkeys(column for _, column in first if column)
    optional = dict.fromkeys(column for _, column in last if column)
    keys = {column: key for key, column in reversed([*first, *last]) if column}
    return NeededColumns(
        tuple(required), tuple(name for name in optional if name not in required), keys
    )


def column_kinds(data: DataConfig) -> dict[str, ColumnKind]:
    """Return what columns may be parsed into at once; others stay strings.

    A column that serves two purposes may only if it is the same for both.
    """
    found: dict[str, set[ColumnKind | None]] = {}
    clicks = data.label_kind is LabelKind.click
    found[data.label] = {ColumnKind.text if clicks else None}
    others = [("data.id_column", data.id_column), *_about_rows(data)]
    others.append(("data.keep_rate_column", data.keep_rate_column))
    for _, column in others:
        if column is not None:
            found.setdefault(column, set()).add(None)
    for name, dense in data.dense_features.items():
        found.setdefault(dense.column or name, set()).add(ColumnKind.number)
    for name, sparse in data.sparse_features.items():
        kind = None if sparse.multi_hot else ColumnKind.text
        if sparse.encoding is Encoding.bucketize and not sparse.multi_hot:
            kind = ColumnKind.number
        found.setdefault(sparse.column or name, set()).add(kind)
        if sparse.weight_column is not None:
            found.setdefault(sparse.weight_column, set()).add(None)
    return {
        column: kind
        for column, (kind, *others_too) in ((c, tuple(k)) for c, k in found.items())
        if kind is not None and not others_too
    }


def _about_rows(data: DataConfig) -> list[tuple[str, str | None]]:
    split_column = data.split_column if data.split is Split.column else None
    return [
        ("data.group_column", data.group_column),
        ("data.time_column", data.time_column),
        ("data.weight_column", data.weight_column),
        ("data.split_column", split_column),
        *(("data.keep", column) for column in data.keep or []),
    ]


def _of_features(data: DataConfig) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for name, dense in data.dense_features.items():
        found.append((f"data.dense_features.{name}.column", dense.column or name))
    for name, sparse in data.sparse_features.items():
        key = f"data.sparse_features.{name}"
        found.append((f"{key}.column", sparse.column or name))
        found.append((f"{key}.weight_column", sparse.weight_column))
    return found
