"""From a schema's sparse features to torchrec's table configs and collections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torchrec.modules.embedding_configs import DataType, PoolingType
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.checks import require
from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.config.table_options import CompressionMethod, TableDtype
from dlrm.embeddings.names import module_name
from dlrm.embeddings.table_config import BagTableConfig, RowTableConfig

Collection: TypeAlias = EmbeddingBagCollection | EmbeddingCollection

_DATA_TYPES = {
    TableDtype.float32: DataType.FP32,
    TableDtype.float16: DataType.FP16,
    TableDtype.bfloat16: DataType.BF16,
}


def table_configs(
    schema: FeatureSchema,
) -> dict[str, list[BagTableConfig | RowTableConfig]]:
    """Return the configs of each group's tables, in order of the tables' first use.

    Raises:
        ConfigError: Features of one table disagree in width or weights, a feature has
            no width, a name holds a dot, or a padding id is not one of the table's.
    """
    configs: dict[str, list[BagTableConfig | RowTableConfig]] = {}
    group_of = {f.table: group for group, fs in schema.groups.items() for f in fs}
    for table, features in schema.tables.items():
        _check_weights(table, features)
        _check_names(table, features)
        group = group_of[table]
        config = _config(schema, table, sequence=is_sequence(group))
        configs.setdefault(group, []).append(config)
    return configs


def build_collections(schema: FeatureSchema) -> dict[str, Collection]:
    """Return one collection a group, on the meta device: shapes without memory.

    Raises:
        ConfigError: As ``table_configs``.
    """
    meta = torch.device("meta")
    return {
        group: EmbeddingCollection(tables=configs, device=meta)
        if is_sequence(group)
        else EmbeddingBagCollection(
            tables=configs, is_weighted=group == "weighted", device=meta
        )
        for group, configs in table_configs(schema).items()
    }


def is_sequence(group: str) -> bool:
    """Say whether a group's tables give their rows one by one."""
    return "sequence_" in group


def pools_in_kernel(schema: FeatureSchema, feature: FittedSparse) -> bool:
    """Say whether the lookup itself gives the feature's vector, to be used as it is.

    A pooled lookup sums, or takes the mean where all features of its table want that
    and bags have as many rows as ids; other poolings are made of the sums.
    """
    return feature.pooling is Pooling.sum or _takes_means(schema, feature.table)


def padding_ids(schema: FeatureSchema) -> dict[str, int]:
    """Return the padding id of each feature whose table has one, counted from 0.

    Raises:
        ConfigError: It is not one of the table's ids.
    """
    found = {}
    for table, features in schema.tables.items():
        padding, num_ids = schema.options(table).padding_idx, features[0].num_embeddings
        if padding is None:
            continue
        require(
            -num_ids <= padding < num_ids,
            f"tables.{features[0].vocabulary}.padding_idx",
            f"from {-num_ids} to {num_ids - 1}, as the table has {num_ids} ids",
            padding,
        )
        found.update({feature.name: padding % num_ids for feature in features})
    return found


def _config(
    schema: FeatureSchema, table: str, *, sequence: bool
) -> BagTableConfig | RowTableConfig:
    features, options = schema.tables[table], schema.options(table)
    common = {
        "name": module_name(table),
        "num_embeddings": schema.table_rows(table),
        "embedding_dim": _width(table, features),
        "feature_names": [feature.name for feature in features],
        "data_type": _DATA_TYPES[options.dtype or TableDtype.float32],
        "options": options,
        "vocabulary": features[0].vocabulary,
    }
    if sequence:
        return RowTableConfig(**common)
    mean = _takes_means(schema, table)
    pooling = PoolingType.MEAN if mean else PoolingType.SUM
    return BagTableConfig(**common, pooling=pooling)


def _takes_means(schema: FeatureSchema, table: str) -> bool:
    # The mean of one id is its sum, so one-hot features fit any pooling.
    features = schema.tables[table]
    poolings = {f.pooling for f in features if f.feature.multi_hot}
    whole = schema.options(table).compression.method is CompressionMethod.none
    return poolings == {Pooling.mean} and not features[0].weighted and whole


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
