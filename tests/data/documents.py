"""Rows of queries and documents that several tests build on."""

from __future__ import annotations

import dataclasses

import numpy as np

from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from tests.builders import small_schema

FEATURES = ("s1", "s2", "d1")
"""The document's: a one-hot feature, a weighted bag and a dense column."""


def document_schema() -> FeatureSchema:
    """Return s0 and s1 one-hot, s2 a weighted bag, and dense columns d0 and d1."""
    schema = small_schema(num_dense=2, widths=(4, 4, 4))
    *others, bag = schema.sparse
    weighted = dataclasses.replace(bag.feature, weight_column="w")
    bag = dataclasses.replace(bag, feature=weighted)
    return dataclasses.replace(schema, sparse=(*others, bag))


def rows_of(*rows: tuple[int, int, dict[int, float] | list[int], float]) -> EncodedRows:
    """Return rows of (s0, s1, s2, d1); a bag is a list, or ids with their weights."""
    bags = [row[2] for row in rows]
    weights = [
        list(b.values()) if isinstance(b, dict) else [1.0] * len(b) for b in bags
    ]
    return EncodedRows(
        labels=np.ones(len(rows), dtype=np.float32),
        weights=np.ones(len(rows), dtype=np.float32),
        dense=np.array([[i, row[3]] for i, row in enumerate(rows)], dtype=np.float32),
        one_hot=np.array([row[:2] for row in rows], dtype=np.int32),
        bag_lengths=np.array([[len(bag)] for bag in bags], dtype=np.int32),
        bag_values=np.array([i for bag in bags for i in bag], dtype=np.int32),
        bag_weights=np.array([w for own in weights for w in own], dtype=np.float32),
    )


def batch_of(
    rows: EncodedRows, schema: FeatureSchema, *, size: int | None = None
) -> Batch:
    """Return the rows as a batch, padded to ``size``."""
    return collate(rows, np.arange(len(rows)), schema, batch_size=size)
