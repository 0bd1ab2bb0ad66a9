"""Which features read which embedding table, and whether they can share it."""

from __future__ import annotations

from collections.abc import Mapping

from dlrm.config.errors import ConfigError
from dlrm.config.features import SparseFeature

_ROW_SETTINGS = (
    "encoding",
    "num_embeddings",
    "min_frequency",
    "num_buckets",
    "boundaries",
    "text",
)
"""They say what the rows of a table stand for."""


def features_by_table(
    features: dict[str, SparseFeature],
) -> dict[str, dict[str, SparseFeature]]:
    """Group features by table, in the order of their first feature."""
    found: dict[str, dict[str, SparseFeature]] = {}
    for name, feature in features.items():
        found.setdefault(feature.table or name, {})[name] = feature
    return found


def check_name(name: str, key: str) -> None:
    """Refuse a name of a feature or table that could not be part of a dotted key.

    Raises:
        ConfigError: It is empty or holds a dot.
    """
    if not name or "." in name:
        raise ConfigError(
            f"{key} must be a name without dots, which separate the parts of keys, but "
            f"it is {name!r}. Choose another name, and set the feature's column to "
            f"that of the data."
        )


def check_tables(features: dict[str, SparseFeature]) -> None:
    """Refuse names that are no names, and features that cannot share their table.

    Raises:
        ConfigError: A name is empty or holds a dot, or features of one table disagree
            on what its rows are or on having weights.
    """
    for name, feature in features.items():
        check_name(name, f"data.sparse_features.{name}")
        if feature.table is not None:
            check_name(feature.table, f"data.sparse_features.{name}.table")
    for table, sharing in features_by_table(features).items():
        for setting in _ROW_SETTINGS:
            values = {
                name: getattr(feature, setting) for name, feature in sharing.items()
            }
            _refuse_differences(table, setting, values)
        _refuse_mixed_weights(table, sharing)


def check_table_widths(
    features: dict[str, SparseFeature], embedding_dim: object
) -> None:
    """Refuse features of one table that differ in width.

    ``embedding_dim`` is ``model.embedding_dim``, which counts where a feature has none.

    Raises:
        ConfigError: They differ.
    """
    for table, sharing in features_by_table(features).items():
        widths = {name: f.embedding_dim or embedding_dim for name, f in sharing.items()}
        _refuse_differences(table, "embedding_dim", widths)


def _refuse_differences(table: str, setting: str, values: Mapping[str, object]) -> None:
    for name, here in values.items():
        first, there = next(iter(values.items()))
        if here != there:
            raise ConfigError(
                f"data.sparse_features.{name}.{setting} must be that of {first!r}, "
                f"{_shown(there)}, as both read table {table!r}, but it is "
                f"{_shown(here)}. Make them equal, or give them two tables."
            )


def _refuse_mixed_weights(table: str, sharing: dict[str, SparseFeature]) -> None:
    with_weights = [name for name, feature in sharing.items() if feature.weight_column]
    without = [name for name in sharing if name not in with_weights]
    if with_weights and without:
        raise ConfigError(
            f"data.sparse_features.{without[0]}.weight_column must be set, as "
            f"{with_weights[0]!r} of the same table {table!r} has one, but it is not. "
            f"Set it for all features of the table or for none, or give them two "
            f"tables."
        )


def _shown(value: object) -> object:
    return getattr(value, "value", value)
