"""A schema with every kind of feature, rows of it, and plain loops over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.storage.shards import ShardWriter

ONE_HOT, BAG, WEIGHTED_BAG = "one_hot", "bag", "weighted_bag"
MIXED = (ONE_HOT, BAG, WEIGHTED_BAG, ONE_HOT, ONE_HOT, BAG, BAG, WEIGHTED_BAG, ONE_HOT)


def schema_of(*kinds: str, num_dense: int = 3) -> FeatureSchema:
    """Return a schema with sparse features s0, s1, ... of these kinds."""
    return FeatureSchema(
        name="mixed",
        label="label",
        dense=tuple(
            FittedDense(name=f"d{i}", feature=DenseFeature()) for i in range(num_dense)
        ),
        sparse=tuple(_feature(f"s{i}", kind) for i, kind in enumerate(kinds)),
    )


def _feature(name: str, kind: str) -> FittedSparse:
    weight_column = "weight" if kind == WEIGHTED_BAG else None
    feature = SparseFeature(multi_hot=kind != ONE_HOT, weight_column=weight_column)
    return FittedSparse(name=name, feature=feature, table=name, num_embeddings=1000)


def rows_of(
    schema: FeatureSchema, num_rows: int, *, seed: int = 0, longest: int = 3
) -> EncodedRows:
    """Return rows that differ everywhere: the label of row i is i."""
    random = np.random.default_rng(seed)
    num_bags = len(schema.multi_hot)
    lengths = random.integers(0, longest + 1, (num_rows, num_bags), dtype=np.int32)
    num_values = int(lengths.sum())
    weighted = np.tile([f.weighted for f in schema.multi_hot], num_rows)
    bag_weights = np.where(
        np.repeat(weighted, lengths.reshape(-1)), random.random(num_values), 1.0
    ).astype(np.float32)
    return EncodedRows(
        labels=np.arange(num_rows, dtype=np.float32),
        weights=random.random(num_rows, dtype=np.float32),
        dense=random.random((num_rows, schema.num_dense), dtype=np.float32),
        one_hot=random.integers(
            0, 1000, (num_rows, len(schema.one_hot)), dtype=np.int32
        ),
        bag_lengths=lengths,
        bag_values=random.integers(0, 1000, num_values, dtype=np.int32),
        bag_weights=bag_weights if any(f.weighted for f in schema.sparse) else None,
    )


def side_of(rows: EncodedRows) -> pa.Table:
    """Return side columns whose ``__row`` is the label."""
    count = len(rows)
    return pa.table(
        {
            "__file": pa.array(["a.csv"] * count, pa.string()).dictionary_encode(),
            "__row": rows.labels.astype(np.int64),
            "user": [f"u{int(label)}" for label in rows.labels],
        },
    )


def write_dataset(
    folder: Path,
    schema: FeatureSchema,
    splits: dict[str, EncodedRows],
    *,
    shard: int = 5,
) -> Dataset:
    """Write a dataset in shards of ``shard`` rows, three rows a call, and open it."""
    folder.mkdir()
    schema.save(folder)
    with ShardWriter(folder, schema, rows_per_shard=shard) as writer:
        for name, rows in splits.items():
            bounds = [*range(0, len(rows), 3), len(rows)] if len(rows) else [0, 0]
            for piece in rows.pieces(bounds):
                writer.write(name, piece, side_of(piece))
    return Dataset.open(folder)


def as_lists(rows: EncodedRows) -> list[list]:
    """Return each row as lists: label, weight, dense, ids, then its bags of pairs."""
    values = iter(rows.bag_values.tolist())
    weights = iter([] if rows.bag_weights is None else rows.bag_weights.tolist())
    listed = []
    for i in range(len(rows)):
        bags = [
            [(next(values), next(weights, 1.0)) for _ in range(length)]
            for length in rows.bag_lengths[i].tolist()
        ]
        listed.append(
            [
                rows.labels[i].item(),
                rows.weights[i].item(),
                rows.dense[i].tolist(),
                rows.one_hot[i].tolist(),
                bags,
            ]
        )
    return listed


def bags_of_row(schema: FeatureSchema, row: list) -> dict[str, list]:
    """Return the (id, weight) pairs of each feature of one ``as_lists`` row."""
    ids, bags = iter(row[3]), iter(row[4])
    return {
        f.name: next(bags) if f.feature.multi_hot else [(next(ids), 1.0)]
        for f in schema.sparse
    }


def bags_of_batch(bags: KeyedJaggedTensor) -> dict[str, list[list]]:
    """Return each key's bags as lists of (id, weight) pairs, read by lengths alone."""
    values = iter(bags.values().tolist())
    given = bags.weights_or_none()
    weights = iter([] if given is None else given.tolist())
    lengths = iter(bags.lengths().tolist())
    return {
        key: [
            [(next(values), next(weights, 1.0)) for _ in range(next(lengths))]
            for _ in range(bags.stride())
        ]
        for key in bags.keys()  # noqa: SIM118, a method of its own
    }
