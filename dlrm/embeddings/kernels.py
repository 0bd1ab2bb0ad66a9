"""Which tables of a collection go together, and who looks them up and updates them."""

from __future__ import annotations

from enum import Enum

import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.bags import Bags
from dlrm.embeddings.fbgemm_bags import FbgemmBags, fbgemm_is_right
from dlrm.embeddings.torch_bags import TorchBags


class Kernel(Enum):
    """Who looks up and updates a table."""

    fbgemm = "fbgemm"
    torch = "torch"


def choose_kernel(
    options: SparseOptimizer, device: torch.device, embedding_dim: int
) -> Kernel:
    """Return fbgemm where its numbers are right, else torch."""
    right = fbgemm_is_right(options, device=device, embedding_dim=embedding_dim)
    return Kernel.fbgemm if right else Kernel.torch


def build_kernels(
    tables: list[EmbeddingBagConfig],
    *,
    is_weighted: bool,
    options: SparseOptimizer,
    device: torch.device,
    kernel: Kernel | None = None,
) -> list[Bags]:
    """Return as few kernels as serve all ``tables``, each table in one of them.

    Args:
        tables: Of one collection.
        is_weighted: Whether ids come with weights.
        options: The optimizer.
        device: Of tables and input.
        kernel: Overrules ``choose_kernel``.

    Raises:
        ConfigError: A weighted table is pooled by something else than sum, or a table
            by something else than sum or mean.
    """
    groups: dict[tuple[Kernel, PoolingType, int], list[EmbeddingBagConfig]] = {}
    for table in tables:
        _check_pooling(table, is_weighted)
        chosen = kernel or choose_kernel(options, device, table.embedding_dim)
        # The torch kernel keeps its tables in one matrix, so in one width.
        width = table.embedding_dim if chosen is Kernel.torch else 0
        groups.setdefault((chosen, table.pooling, width), []).append(table)
    classes: dict[Kernel, type[FbgemmBags] | type[TorchBags]] = {
        Kernel.fbgemm: FbgemmBags,
        Kernel.torch: TorchBags,
    }
    return [
        classes[chosen](members, pooling=pooling, options=options, device=device)
        for (chosen, pooling, _), members in groups.items()
    ]


def _check_pooling(table: EmbeddingBagConfig, is_weighted: bool) -> None:
    if is_weighted and table.pooling is not PoolingType.SUM:
        raise ConfigError(
            f"Table '{table.name}' of a weighted collection must be pooled by sum, but "
            f"it is pooled by {table.pooling.value.lower()}. For a weighted mean, "
            f"divide the weights by their bag's total, as FeatureEmbeddings does."
        )
    if table.pooling not in (PoolingType.SUM, PoolingType.MEAN):
        raise ConfigError(
            f"Table '{table.name}' must be pooled by sum or mean, but its pooling is "
            f"{table.pooling.value.lower()}."
        )
