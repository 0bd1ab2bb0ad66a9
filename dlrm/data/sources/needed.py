"""Which raw columns a data config reads."""

from __future__ import annotations

from dataclasses import dataclass

from dlrm.config.data import DataConfig, Split


@dataclass(frozen=True, slots=True)
class NeededColumns:
    """Raw columns by name, each once."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    """Read where they exist."""

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, the required ones first."""
        return self.required + self.optional

    def present(self, found: list[str] | tuple[str, ...]) -> list[str]:
        """List those to read of a file that has the columns ``found``."""
        return [*self.required, *(name for name in self.optional if name in found)]


def needed_columns(data: DataConfig, *, with_labels: bool) -> NeededColumns:
    """List the columns that ``data`` names.

    Rows that are only to be scored (``with_labels`` false) need their features and
    their id; label, weight, group, time and kept columns are read where they exist.
    """
    dense = data.dense_features.items()
    features = [feature.column or name for name, feature in dense]
    for name, sparse in data.sparse_features.items():
        features.append(sparse.column or name)
        features.append(sparse.weight_column or "")
    split_column = data.split_column if data.split is Split.column else None
    about = [data.group_column, data.time_column, data.weight_column, split_column]
    about += data.keep or []
    first, last = (about, []) if with_labels else ([], about)
    label = [data.label]
    required = [*(label if with_labels else []), data.id_column, *first, *features]
    kept = dict.fromkeys(name for name in required if name)
    others = dict.fromkeys([] if with_labels else label)
    others.update(dict.fromkeys(name for name in last if name and name not in kept))
    return NeededColumns(tuple(kept), tuple(others))
