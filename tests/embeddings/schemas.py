"""Small schemas, and their embeddings with values."""

from __future__ import annotations

import dataclasses

import torch

from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local
from tests.embeddings.oracle import CPU

SGD = SparseOptimizer(name=SparseOptimizerName.sgd)


def feature(
    name: str,
    *,
    width: int | None = 4,
    table: str | None = None,
    pooling: Pooling = Pooling.sum,
    multi_hot: bool = True,
    weighted: bool = False,
    num_embeddings: int = 7,
) -> FittedSparse:
    options = SparseFeature(
        embedding_dim=width,
        pooling=pooling,
        multi_hot=multi_hot,
        weight_column="w" if weighted else None,
    )
    return FittedSparse(
        name=name,
        feature=options,
        table=table or name,
        num_embeddings=num_embeddings,
    )


def schema(
    *features: FittedSparse, tables: dict[str, TableOptions] | None = None
) -> FeatureSchema:
    return FeatureSchema(
        name="s", label="y", dense=(), sparse=features, table_options=tables or {}
    )


def plain_embeddings(of: FeatureSchema, *, seed: int = 0) -> FeatureEmbeddings:
    """Return embeddings over torchrec's own collections with random values."""
    embeddings = FeatureEmbeddings(of).to_empty(device=CPU)
    return _randomized(embeddings, seed)


def local_embeddings(
    of: FeatureSchema, *, seed: int = 0, lr: float | None = None
) -> FeatureEmbeddings:
    """Return embeddings over local collections, trained by SGD, with random values."""
    embeddings = FeatureEmbeddings(of)
    sgd = SGD if lr is None else dataclasses.replace(SGD, lr=lr)
    to_local(embeddings, optimizer=sgd, device=CPU)
    return _randomized(embeddings, seed)


def weight_of(embeddings: FeatureEmbeddings, table: str) -> torch.Tensor:
    """Return the live rows of ``table``, whichever collection holds them."""
    tensors = {**embeddings.state_dict(), **dict(embeddings.named_parameters())}
    (found,) = [
        tensor
        for name, tensor in tensors.items()
        if name.endswith(
            (f"embedding_bags.{table}.weight", f".embeddings.{table}.weight")
        )
    ]
    return found


def _randomized(embeddings: FeatureEmbeddings, seed: int) -> FeatureEmbeddings:
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in embeddings.state_dict().values():
            weight.copy_(torch.randn(weight.shape, generator=random))
    return embeddings
