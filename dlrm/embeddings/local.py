"""Swap a model's embedding collections for self-training ones, and back."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import nn
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Storage
from dlrm.embeddings.collection import LocalEmbeddingBagCollection
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.kernel_options import TableConfig
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.row_collection import LocalEmbeddingCollection

Local: TypeAlias = LocalEmbeddingBagCollection | LocalEmbeddingCollection
_Plain: TypeAlias = EmbeddingBagCollection | EmbeddingCollection


def to_local(
    model: nn.Module,
    *,
    optimizer: SparseOptimizer,
    device: torch.device,
    initial: InitialValues | None = None,
    kernel: Kernel | None = None,
    trainable: bool = True,
    storage: Storage | None = None,
) -> None:
    """Replace every torchrec collection inside ``model`` by a self-training one.

    Values come from ``initial``, else from the collection; the tables of a collection
    on the meta device start at zero without ``initial``. Swap before ``model.to``:
    nothing can be copied off the meta device.

    Args:
        model: Changed in place; must not itself be a collection.
        optimizer: Of tables without their own.
        device: Of all tables.
        initial: Initial values.
        kernel: Overrules ``choose_kernel``.
        trainable: Whether to keep optimizer state and give gradients; a model that is
            only evaluated needs neither.
        storage: Of tables without their own; ``fused`` where None.

    Raises:
        ConfigError: A table's options, pooling and weights do not fit each other, or a
            table cannot lie where it asks to.
    """
    for parent, name, plain in _collections(model, _Plain):
        local = _local(plain, optimizer, device, kernel, trainable, storage)
        for table in _tables(plain):
            rows = _rows(local)[table.name].weight
            given = _rows(plain)[table.name].weight
            if initial is not None:
                initial.fill(table, rows)
            elif not given.is_meta:
                rows.copy_(given.detach())
        setattr(parent, name, local.train(plain.training))


def to_plain(model: nn.Module) -> None:
    """Replace every self-training collection by torchrec's own, with equal values.

    A table keeps its type and its stored rows to the bit. What lookups make of them
    (``max_norm``, ``admit_after``) a plain collection does not know.
    """
    for parent, name, local in _collections(model, Local):
        plain = _plain(local)
        for table in _tables(local):
            # torchrec makes float16 of every type but float32.
            rows = _rows(local)[table.name].weight.clone()
            _rows(plain)[table.name].weight = nn.Parameter(rows)
        setattr(parent, name, plain.to(rows.device).train(local.training))


def local_collections(model: nn.Module) -> list[Local]:
    """Return the self-training collections inside ``model``, in its own order."""
    return [module for module in model.modules() if isinstance(module, Local)]


def _local(
    plain: _Plain,
    optimizer: SparseOptimizer,
    device: torch.device,
    kernel: Kernel | None,
    trainable: bool,
    storage: Storage | None,
) -> Local:
    if isinstance(plain, EmbeddingBagCollection):
        return LocalEmbeddingBagCollection(
            plain.embedding_bag_configs(),
            is_weighted=plain.is_weighted(),
            optimizer=optimizer,
            device=device,
            kernel=kernel,
            trainable=trainable,
            storage=storage,
        )
    return LocalEmbeddingCollection(
        plain.embedding_configs(),
        optimizer=optimizer,
        device=device,
        kernel=kernel,
        trainable=trainable,
        need_indices=plain.need_indices(),
        storage=storage,
    )


def _plain(local: Local) -> _Plain:
    """Return torchrec's collection, its tables still without memory."""
    meta = torch.device("meta")
    if isinstance(local, LocalEmbeddingBagCollection):
        return EmbeddingBagCollection(
            tables=local.embedding_bag_configs(),
            is_weighted=local.is_weighted(),
            device=meta,
        )
    return EmbeddingCollection(
        tables=local.embedding_configs(),
        need_indices=local.need_indices(),
        device=meta,
    )


def _tables(collection: Local | _Plain) -> list[TableConfig]:
    if isinstance(collection, LocalEmbeddingBagCollection | EmbeddingBagCollection):
        return list(collection.embedding_bag_configs())
    return list(collection.embedding_configs())


def _rows(collection: Local | _Plain) -> Any:
    """Return the collection's modules that hold a ``weight`` each, by table name."""
    if isinstance(collection, LocalEmbeddingBagCollection | EmbeddingBagCollection):
        return collection.embedding_bags
    return collection.embeddings


def _collections(model: nn.Module, kind: Any) -> list[tuple[nn.Module, str, Any]]:
    """Return parent, name and module of every ``kind`` inside ``model``."""
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, kind)
    ]
