"""Swap a model's embedding collections for self-training ones, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.collection import LocalEmbeddingBagCollection
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.names import table_name


def to_local(
    model: nn.Module,
    *,
    optimizer: SparseOptimizer,
    device: torch.device,
    initial: InitialValues | None = None,
    kernel: Kernel | None = None,
) -> None:
    """Replace every torchrec collection inside ``model`` by a self-training one.

    Values come from ``initial``, else from the collection; the tables of a collection
    on the meta device start at zero without ``initial``. Swap before ``model.to``:
    nothing can be copied off the meta device.

    Args:
        model: Changed in place; must not itself be a collection.
        optimizer: Of all tables.
        device: Of all tables.
        initial: Initial values.
        kernel: Overrules ``choose_kernel``.

    Raises:
        ConfigError: A table's pooling and weights do not fit each other.
    """
    for parent, name, collection in _collections(model, EmbeddingBagCollection):
        local = LocalEmbeddingBagCollection(
            collection.embedding_bag_configs(),
            is_weighted=collection.is_weighted(),
            options=optimizer,
            device=device,
            kernel=kernel,
        ).train(collection.training)
        for table in collection.embedding_bag_configs():
            rows = local.get_buffer(f"embedding_bags.{table.name}.weight")
            given = collection.get_parameter(f"embedding_bags.{table.name}.weight")
            if initial is not None:
                initial.fill(table_name(table.name), rows)
            elif not given.is_meta:
                rows.copy_(given.detach())
        setattr(parent, name, local)


def to_plain(model: nn.Module) -> None:
    """Replace every self-training collection by torchrec's own, with equal values."""
    for parent, name, local in _collections(model, LocalEmbeddingBagCollection):
        plain = EmbeddingBagCollection(
            tables=local.embedding_bag_configs(),
            is_weighted=local.is_weighted(),
            device=next(local.buffers()).device,
        ).train(local.training)
        plain.load_state_dict(local.state_dict())
        setattr(parent, name, plain)


def set_sparse_learning_rate(model: nn.Module, lr: float) -> None:
    """Train all tables with ``lr`` from the next forward pass on."""
    for local in local_collections(model):
        for bags in local.kernels:
            bags.set_learning_rate(lr)


def local_collections(model: nn.Module) -> list[LocalEmbeddingBagCollection]:
    """Return the self-training collections inside ``model``, in its own order."""
    modules = model.modules()
    return [m for m in modules if isinstance(m, LocalEmbeddingBagCollection)]


def _collections(
    model: nn.Module, kind: type[nn.Module]
) -> list[tuple[nn.Module, str, Any]]:
    """Return parent, name and module of every ``kind`` inside ``model``."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]
