"""Models of a few tables, on the meta device, to plan for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.hardware import HardwareConfig
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import ShardingConfig
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.table_config import BagTableConfig, RowTableConfig
from dlrm.planning.plan import Planned, plan_model

META = torch.device("meta")
SGD = SparseOptimizer(name=SparseOptimizerName.sgd)
ADAGRAD = SparseOptimizer(name=SparseOptimizerName.adagrad)
ROWWISE = SparseOptimizer(name=SparseOptimizerName.rowwise_adagrad)


def bags(name: str, rows: int, dim: int = 16, **options: Any) -> BagTableConfig:
    return BagTableConfig(
        name=name,
        num_embeddings=rows,
        embedding_dim=dim,
        feature_names=[name],
        options=TableOptions(**options),
    )


def rows(name: str, rows: int, dim: int = 16) -> RowTableConfig:
    return RowTableConfig(
        name=name, num_embeddings=rows, embedding_dim=dim, feature_names=[name]
    )


def model_of(*configs: BagTableConfig | RowTableConfig) -> nn.Module:
    """Return a model with these tables and a dense layer."""
    model = nn.Module()
    pooled = [c for c in configs if isinstance(c, BagTableConfig)]
    single = [c for c in configs if isinstance(c, RowTableConfig)]
    if pooled:
        model.bags = EmbeddingBagCollection(tables=pooled, device=META)
    if single:
        model.rows = EmbeddingCollection(tables=single, device=META)
    model.dense = nn.Linear(4, 4)
    return model


def planned(
    model: nn.Module,
    *,
    world_size: int = 4,
    ranks_per_node: int = 4,
    device_type: str = "cuda",
    optimizer: SparseOptimizer = ROWWISE,
    sharding: ShardingConfig | None = None,
    global_batch_size: int = 64,
    **hardware: Any,
) -> Planned:
    return plan_model(
        model,
        sharding=sharding or ShardingConfig(),
        hardware=HardwareConfig(
            on_cpu=device_type == "cpu", num_gpus=world_size, **hardware
        ),
        optimizer=optimizer,
        world_size=world_size,
        ranks_per_node=ranks_per_node,
        device_type=device_type,
        global_batch_size=global_batch_size,
    )
