"""Small schemas and batches that many tests build on."""

from __future__ import annotations

import numpy as np

from dlrm.config.features import DenseFeature, Pooling, SparseFeature
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows


def small_schema(
    *,
    num_dense: int = 2,
    widths: tuple[int, ...] = (4, 4, 4),
    num_embeddings: int = 7,
    pooling: Pooling = Pooling.sum,
) -> FeatureSchema:
    """Return a schema with one-hot features s0, s1, ... whose last one is multi-hot."""
    dense = tuple(
        FittedDense(name=f"d{i}", feature=DenseFeature()) for i in range(num_dense)
    )
    sparse = tuple(
        FittedSparse(
            name=f"s{i}",
            feature=SparseFeature(
                multi_hot=i == len(widths) - 1, embedding_dim=width, pooling=pooling
            ),
            table=f"s{i}",
            num_embeddings=num_embeddings + i,
        )
        for i, width in enumerate(widths)
    )
    return FeatureSchema(name="small", label="label", dense=dense, sparse=sparse)


def random_rows(schema: FeatureSchema, *, num_rows: int, seed: int = 0) -> EncodedRows:
    """Return rows with random values; about a quarter of the bags are empty."""
    random = np.random.default_rng(seed)
    sizes_1 = [feature.num_embeddings for feature in schema.one_hot]
    sizes_2 = [feature.num_embeddings for feature in schema.multi_hot]
    lengths = random.integers(0, 4, (num_rows, len(sizes_2)), dtype=np.int32)
    bags = [
        random.integers(0, size, length, dtype=np.int32)
        for row in lengths
        for size, length in zip(sizes_2, row, strict=True)
    ]
    one_hot = [random.integers(0, size, num_rows, dtype=np.int32) for size in sizes_1]
    return EncodedRows(
        labels=random.integers(0, 2, num_rows).astype(np.float32),
        weights=np.ones(num_rows, dtype=np.float32),
        dense=random.normal(size=(num_rows, schema.num_dense)).astype(np.float32),
        one_hot=np.stack(one_hot, axis=1)
        if one_hot
        else np.zeros((num_rows, 0), dtype=np.int32),
        bag_lengths=lengths,
        bag_values=np.concatenate(bags) if bags else np.zeros(0, dtype=np.int32),
        bag_weights=None,
    )


def random_batch(schema: FeatureSchema, *, num_rows: int, seed: int = 0) -> Batch:
    """Return ``random_rows`` as a batch with row ids 0, 1, ..."""
    rows = random_rows(schema, num_rows=num_rows, seed=seed)
    return collate(rows, np.arange(num_rows, dtype=np.int64), schema)
