"""Which features read which embedding table, and whether they can share it."""

from __future__ import annotations

from dlrm.config.errors import ConfigError
from dlrm.config.features import Encoding, OutOfRange, SparseFeature

MAX_EMBEDDINGS = 2**31 - 1
_SHARED_SETTINGS = (
    "encoding",
    "num_embeddings",
    "min_frequency",
    "num_buckets",
    "boundaries",
)


def features_by_table(
    features: dict[str, SparseFeature],
) -> dict[str, dict[str, SparseFeature]]:
    """Group features by table, in the order of their first feature.

    Raises:
        ConfigError: Features share a table but disagree on what its rows are, a table
            has more rows than 32-bit ids can name, or texts are to be clamped.
    """
    found: dict[str, dict[str, SparseFeature]] = {}
    for name, feature in features.items():
        found.setdefault(feature.table or name, {})[name] = feature
        _refuse_clamp(name, feature)
        size = feature.num_embeddings
        if size is not None and size > MAX_EMBEDDINGS:
            raise ConfigError(
                f"data.sparse_features.{name}.num_embeddings must be at most "
                f"{MAX_EMBEDDINGS}, as ids have 32 bits, but it is {size}."
            )
    for table, sharing in found.items():
        _refuse_differences(table, sharing)
    return found


def _refuse_clamp(name: str, feature: SparseFeature) -> None:
    clamps = feature.out_of_range is OutOfRange.clamp
    if clamps and feature.encoding is Encoding.vocabulary:
        raise ConfigError(
            f"data.sparse_features.{name}.out_of_range must be error, oov or hash for "
            f"encoding=vocabulary, whose values have no order, but it is clamp."
        )


def _refuse_differences(table: str, sharing: dict[str, SparseFeature]) -> None:
    (first, model), *others = sharing.items()
    for name, feature in others:
        for setting in _SHARED_SETTINGS:
            here, there = getattr(feature, setting), getattr(model, setting)
            if here != there:
                raise ConfigError(
                    f"data.sparse_features.{name}.{setting} must be that of "
                    f"{first!r}, {_shown(there)}, as both read table {table!r}, but it "
                    f"is {_shown(here)}. Make them equal, or give them two tables."
                )


def _shown(value: object) -> object:
    return getattr(value, "value", value)
