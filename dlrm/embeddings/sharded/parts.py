"""One process's parts of tables as tables of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig

from dlrm.config.sharding import Storage
from dlrm.distributed.plan import Part, TablePlan
from dlrm.embeddings.kernel_options import TableConfig, padding_row
from dlrm.embeddings.table_config import (
    BagTableConfig,
    RowTableConfig,
    options_of,
)

Config = TypeVar("Config", EmbeddingBagConfig, EmbeddingConfig)


@dataclass(frozen=True, slots=True)
class OwnPart(Generic[Config]):
    """A part of a table that this process keeps."""

    whole: Config
    """The whole table's config."""
    part: Part
    config: Config
    """Of the part as a table; no other part of the process has its name."""


def own_parts(
    wholes: Mapping[str, Config], sharding: Any, rank: int
) -> list[OwnPart[Config]]:
    """Return this process's parts of one strategy, in the order of torchrec's ids.

    Args:
        wholes: Tables by name, as they are to be looked up.
        sharding: torchrec's, which holds them.
        rank: This process's.
    """
    found = []
    for group in sharding._grouped_embedding_configs_per_rank[rank]:
        for table in group.embedding_tables:
            first_row, first_column = table.local_metadata.shard_offsets
            num_rows, num_columns = table.local_metadata.shard_sizes
            part = Part(rank, first_row, num_rows, first_column, num_columns)
            whole = wholes[table.name]
            found.append(OwnPart(whole, part, part_config(whole, part)))
    return found


def placed_config(config: Config, plan: TablePlan) -> Config:
    """Return the config of a table that lies in the memory that its plan says."""
    options = options_of(config)
    own = dataclasses.replace(
        options.sharding,
        storage=plan.storage,
        cache_load_factor=plan.cache_load_factor,
    )
    if own.storage is (options.sharding.storage or Storage.fused) and (
        own.cache_load_factor == options.sharding.cache_load_factor
    ):
        return config
    placed = dataclasses.replace(options, sharding=own)
    if isinstance(config, BagTableConfig | RowTableConfig):
        return dataclasses.replace(config, options=placed)
    # torchrec's own config, which has no options.
    kind = BagTableConfig if isinstance(config, EmbeddingBagConfig) else RowTableConfig
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return kind(**fields, options=placed)


def part_config(config: Config, part: Part) -> Config:
    """Return the config of a table that is ``part`` of the one of ``config``.

    Its ``padding_idx`` counts from the part's first row. A part without rows gets one
    that no id reaches: fbgemm has no empty tables. Of several ranges of columns, each
    has its own names of table and features.
    """
    changes: dict[str, Any] = {
        "num_embeddings": max(part.num_rows, 1),
        "embedding_dim": part.num_columns,
        "name": part_name(config.name, part, config),
        "feature_names": [part_name(f, part, config) for f in config.feature_names],
    }
    row = padding_row(config)
    if row is not None:
        inside = part.rows.start <= row < part.rows.stop
        changes["options"] = dataclasses.replace(
            options_of(config), padding_idx=row - part.first_row if inside else None
        )
    return dataclasses.replace(config, **changes)


def part_name(name: str, part: Part, config: TableConfig) -> str:
    """Return what a part of the table calls ``name``, one of its own names."""
    if part.num_columns == config.embedding_dim:
        return name
    return f"{name}@{part.first_column}"
