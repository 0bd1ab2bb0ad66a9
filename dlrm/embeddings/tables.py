"""From a schema's sparse features to torchrec's table configs and collections."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.embeddings.names import module_name


def table_configs(schema: FeatureSchema) -> dict[str, list[EmbeddingBagConfig]]:
    """Return the configs of each group's tables, in order of the tables' first use.

    A weighted group is always pooled by sum: a weighted mean is a sum with the weights
    divided by their bag's total, which ``mean_weights`` does before the lookup.

    Raises:
        ConfigError: Features of one table disagree in width, pooling or weights, a
            feature has no width, or a name holds a dot.
    """
    configs: dict[str, list[EmbeddingBagConfig]] = {}
    group_of = {f.table: group for group, fs in schema.groups.items() for f in fs}
    for table, features in schema.tables.items():
        _check_weights(table, features)
        _check_names(table, features)
        config = EmbeddingBagConfig(
            name=module_name(table),
            num_embeddings=schema.table_rows(table),
            embedding_dim=_width(table, features),
            feature_names=[feature.name for feature in features],
            pooling=_pooling(table, features),
        )
        configs.setdefault(group_of[table], []).append(config)
    return configs


def build_collections(schema: FeatureSchema) -> dict[str, EmbeddingBagCollection]:
    """Return one collection a group, on the meta device: shapes without memory.

    Raises:
        ConfigError: As ``table_configs``.
    """
    return {
        group: EmbeddingBagCollection(
            tables=configs,
            is_weighted=group == "weighted",
            device=torch.device("meta"),
        )
        for group, configs in table_configs(schema).items()
    }


def _check_names(table: str, features: tuple[FittedSparse, ...]) -> None:
    for name in (table, *(feature.name for feature in features)):
        if "." in name:
            raise ConfigError(
                f"Names of tables and sparse features must hold no dot, because they "
                f"are parts of dotted keys, but one is '{name}'. Rename the feature "
                f"and set its column, or set its table."
            )


def _width(table: str, features: tuple[FittedSparse, ...]) -> int:
    widths = {f.name: f.feature.embedding_dim for f in features}
    first = features[0].feature.embedding_dim
    if first is None or len(set(widths.values())) > 1:
        raise _disagreement(table, "embedding_dim", widths)
    return first


def _pooling(table: str, features: tuple[FittedSparse, ...]) -> PoolingType:
    # The mean of one id is its sum, so a one-hot feature fits either pooling; taking
    # sum for it lets one kernel serve more tables.
    poolings = {f.name: f.feature.pooling for f in features if f.feature.multi_hot}
    if len(set(poolings.values())) > 1:
        shown = {name: pooling.value for name, pooling in poolings.items()}
        raise _disagreement(table, "pooling", shown)
    mean = Pooling.mean in poolings.values() and not features[0].weighted
    return PoolingType.MEAN if mean else PoolingType.SUM


def _check_weights(table: str, features: tuple[FittedSparse, ...]) -> None:
    if len({f.weighted for f in features}) > 1:
        columns = {f.name: f.feature.weight_column for f in features}
        raise _disagreement(table, "weight_column", columns)


def _disagreement(table: str, key: str, values: Mapping[str, object]) -> ConfigError:
    shown = ", ".join(f"{name}={value}" for name, value in values.items())
    kind = "set or unset" if key == "weight_column" else "one and the same"
    return ConfigError(
        f"{key} must be {kind} for all features of table '{table}', but it is {shown}. "
        f"Set data.sparse_features.<feature>.{key} alike, or give each feature its "
        f"own table."
    )
