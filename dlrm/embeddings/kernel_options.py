"""What the tables of one kernel have in common: their options, resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torchrec.modules.embedding_configs import (
    DataType,
    EmbeddingBagConfig,
    EmbeddingConfig,
    PoolingType,
)

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Storage
from dlrm.config.table_options import Gradient, TableDtype
from dlrm.embeddings.names import table_name
from dlrm.embeddings.table_config import options_of

TableConfig: TypeAlias = EmbeddingBagConfig | EmbeddingConfig

_TORCH_DTYPES = {
    TableDtype.float32: torch.float32,
    TableDtype.float16: torch.float16,
    TableDtype.bfloat16: torch.bfloat16,
}
_OF_TORCHREC = {
    DataType.FP32: torch.float32,
    DataType.FP16: torch.float16,
    DataType.BF16: torch.bfloat16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelOptions:
    """How tables are stored, looked up and trained; equals may share a kernel."""

    embedding_dim: int
    pooling: PoolingType = PoolingType.SUM
    """``NONE`` gives every id a vector of its own."""
    optimizer: SparseOptimizer | None = None
    """None for tables that are never trained."""
    dtype: torch.dtype = torch.float32
    stochastic_rounding: bool = False
    """Never true for float32."""
    dense_gradient: bool = False
    """Step all rows, those that were not looked up with a gradient of zero."""
    scale_grad_by_freq: bool = False
    max_norm: float | None = None
    norm_type: float = 2.0
    admit_after: int = 0
    padded: bool = False
    """Whether the tables have a padding row."""
    storage: Storage = Storage.fused
    cache_load_factor: float | None = None
    """For ``fused_uvm_caching``: the share of the rows that the GPU holds."""


def kernel_options(
    table: TableConfig, default: SparseOptimizer, storage: Storage | None = None
) -> KernelOptions:
    """Return a table's options.

    Args:
        table: Its config.
        default: The optimizer of tables without their own.
        storage: That of tables without their own; ``fused`` where None.

    Raises:
        ConfigError: The table's type is not one that it can be trained in.
    """
    options, dtype = options_of(table), table_dtype(table)
    storage = options.sharding.storage or storage or Storage.fused
    cached = storage is Storage.fused_uvm_caching
    return KernelOptions(
        embedding_dim=table.embedding_dim,
        pooling=getattr(table, "pooling", PoolingType.NONE),
        optimizer=None if options.frozen else options.optimizer.resolved(default),
        dtype=dtype,
        stochastic_rounding=options.stochastic_rounding and dtype != torch.float32,
        dense_gradient=options.gradient is Gradient.dense,
        scale_grad_by_freq=options.scale_grad_by_freq,
        max_norm=options.max_norm,
        norm_type=options.norm_type,
        admit_after=options.admit_after,
        padded=options.padding_idx is not None,
        storage=storage,
        cache_load_factor=options.sharding.cache_load_factor if cached else None,
    )


def table_dtype(table: TableConfig) -> torch.dtype:
    """Return the type of a table's rows: of its options, else of torchrec's config.

    Raises:
        ConfigError: torchrec's config asks for a type that cannot be trained.
    """
    own = options_of(table).dtype
    if own is not None:
        return _TORCH_DTYPES[own]
    if table.data_type not in _OF_TORCHREC:
        raise ConfigError(
            f"Table '{table_name(table.name)}' must be stored as float32, float16 or "
            f"bfloat16 to be trained, but its data_type is {table.data_type.name}. "
            f"Quantise the collection after training."
        )
    return _OF_TORCHREC[table.data_type]


def padding_row(table: TableConfig) -> int | None:
    """Return the row of ``padding_idx``, counted from the table's first row.

    Raises:
        ConfigError: The table has no such row.
    """
    given, num_rows = options_of(table).padding_idx, table.num_embeddings
    if given is None:
        return None
    if not -num_rows <= given < num_rows:
        raise ConfigError(
            f"tables.{table_name(table.name)}.padding_idx must be a row of the table, "
            f"from {-num_rows} to {num_rows - 1}, but it is {given}."
        )
    return given % num_rows
