"""Global batches of rows with every kind of feature, and the ranks' slices of them."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch.distributed as dist

from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from tests.builders import random_rows, small_schema

SLICES = ((5, 3), (2, 5), (4, 0))
"""Rows of both ranks' slices in each step; the shorter one is filled with padding."""
NUM_EMBEDDINGS = 7
"""Of every table: odd, so that two ranks keep unequal ranges of rows."""


def every_kind_of_feature() -> FeatureSchema:
    """Return one-hot, multi-hot and weighted features of several widths.

    Poolings are sum, mean, max and attention; ``near`` and ``tags`` share a table.
    """
    bags = {"tags": 4, "seen": 8, "words": 3, "topics": 4}
    poolings = (Pooling.mean, Pooling.sum, Pooling.max, Pooling.attention)
    features = {"city": SparseFeature(embedding_dim=8)} | {
        name: SparseFeature(
            multi_hot=True,
            embedding_dim=width,
            pooling=pooling,
            weight_column="weight" if name in ("seen", "topics") else None,
        )
        for (name, width), pooling in zip(bags.items(), poolings, strict=True)
    }
    features["near"] = dataclasses.replace(features["tags"], pooling=Pooling.sqrtn)
    sparse = tuple(
        FittedSparse(
            name=name,
            feature=feature,
            table="tags" if name == "near" else name,
            num_embeddings=NUM_EMBEDDINGS,
        )
        for name, feature in features.items()
    )
    return dataclasses.replace(small_schema(num_dense=2, widths=()), sparse=sparse)


def batch_of(number: int, group: dist.ProcessGroup | None) -> Batch:
    """Return a step's global batch, or this rank's slice of it."""
    schema, sizes = every_kind_of_feature(), SLICES[number]
    rows = _rows(schema, sum(sizes), seed=number)
    if group is None or group.size() == 1:
        return collate(rows, np.arange(len(rows)), schema)
    bounds = [0, *itertools.accumulate(sizes)]
    own = list(rows.pieces(bounds))[group.rank()]
    row_ids = np.arange(len(own)) + bounds[group.rank()]
    return collate(own, row_ids, schema, batch_size=max(sizes))


def _rows(schema: FeatureSchema, num_rows: int, *, seed: int) -> EncodedRows:
    rows = random_rows(schema, num_rows=num_rows, seed=seed)
    random = np.random.default_rng(seed)
    return dataclasses.replace(
        rows,
        weights=random.uniform(0.5, 2.0, num_rows).astype(np.float32),
        bag_weights=random.uniform(0.5, 2.0, rows.bag_values.size).astype(np.float32),
    )
