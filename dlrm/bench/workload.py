"""A prepared dataset of a workload's shape, and its batches as bare tensors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig, SourceFormat, Split
from dlrm.config.features import DenseFeature, Encoding, SparseFeature
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse, SplitSummary
from dlrm.config.workload import WorkloadConfig
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.storage.shards import ShardWriter

_ROWS_PER_WRITE = 65_536


def workload_data(workload: WorkloadConfig, *, prepared: str) -> DataConfig:
    """Return the data section that describes the workload's dataset."""
    sizes = zip(workload.table_rows, workload.bag_lengths, strict=True)
    return DataConfig(
        name=workload.name,
        format=SourceFormat.table,
        prepared=prepared,
        split=Split.source,
        dense_features={f"d{i}": DenseFeature() for i in range(workload.num_dense)},
        sparse_features={
            f"s{i}": SparseFeature(
                encoding=Encoding.identity,
                num_embeddings=num_embeddings,
                multi_hot=length > 1,
            )
            for i, (num_embeddings, length) in enumerate(sizes)
        },
    )


def workload_dataset(workload: WorkloadConfig, *, prepared: str) -> Path:
    """Return the workload's prepared dataset, written first if it is not there yet."""
    content = json.dumps(dataclasses.asdict(workload), sort_keys=True)
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    folder = Path(prepared) / f"{workload.name}-{fingerprint[:12]}"
    if folder.is_dir():
        return folder
    aside = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    data = workload_data(workload, prepared=prepared)
    schema = _schema(data, workload, fingerprint)
    writer = ShardWriter(aside, schema)
    start = 0
    while start < workload.num_rows:
        count = min(_ROWS_PER_WRITE, workload.num_rows - start)
        side = pa.table(
            {
                "__file": pa.array(["workload"] * count).dictionary_encode(),
                "__row": np.arange(start, start + count, dtype=np.int64),
            }
        )
        writer.write("train", _rows(workload, start, count), side)
        start += count
    schema.save(aside)
    writer.close()
    aside.rename(folder)
    return folder


def workload_columns(workload: WorkloadConfig) -> dict[str, pa.Array]:
    """Return the raw columns that the workload's dataset could be prepared from."""
    rows = _rows(workload, 0, workload.num_rows)
    columns: dict[str, pa.Array] = {"label": pa.array(rows.labels)}
    for place in range(workload.num_dense):
        columns[f"d{place}"] = pa.array(np.ascontiguousarray(rows.dense[:, place]))
    one_hot = iter(np.ascontiguousarray(rows.one_hot.T))
    per_row = sum(length for length in workload.bag_lengths if length > 1)
    bags, start = rows.bag_values.reshape(workload.num_rows, per_row), 0
    for place, length in enumerate(workload.bag_lengths):
        if length == 1:
            columns[f"s{place}"] = pa.array(next(one_hot))
            continue
        values = pa.array(bags[:, start : start + length].reshape(-1))
        offsets = pa.array(np.arange(workload.num_rows + 1, dtype=np.int32) * length)
        columns[f"s{place}"] = pa.ListArray.from_arrays(offsets, values)
        start += length
    return columns


def _schema(
    data: DataConfig, workload: WorkloadConfig, fingerprint: str
) -> FeatureSchema:
    empty = SplitSummary(num_rows=0, num_positives=0.0, total_weight=0.0)
    rows = workload.num_rows
    train = SplitSummary(num_rows=rows, num_positives=rows / 4, total_weight=rows)
    return FeatureSchema(
        name=workload.name,
        label="label",
        dense=tuple(
            FittedDense(name=name, feature=feature)
            for name, feature in data.dense_features.items()
        ),
        sparse=tuple(
            FittedSparse(
                name=name,
                feature=feature,
                table=name,
                num_embeddings=feature.num_embeddings or 0,
            )
            for name, feature in data.sparse_features.items()
        ),
        splits={"train": train, "valid": empty, "test": empty},
        fingerprint=fingerprint,
    )


def _rows(workload: WorkloadConfig, start: int, count: int) -> EncodedRows:
    random = np.random.Generator(np.random.Philox(key=[workload.seed, start]))
    one_hot, bags, lengths = [], [], []
    for num_rows, length in zip(workload.table_rows, workload.bag_lengths, strict=True):
        ids = zipf_ids(random, num_rows, workload.zipf_exponent, (count, length))
        if length == 1:
            one_hot.append(ids)
        else:
            bags.append(ids)
            lengths.append(length)
    no_ids = np.zeros((count, 0), dtype=np.int32)
    return EncodedRows(
        labels=(random.random(count) < 0.25).astype(np.float32),
        weights=np.ones(count, dtype=np.float32),
        dense=random.standard_normal((count, workload.num_dense), dtype=np.float32),
        one_hot=np.concatenate([*one_hot, no_ids], axis=1),
        bag_lengths=np.tile(np.array(lengths, dtype=np.int32), (count, 1)),
        bag_values=np.concatenate([*bags, no_ids], axis=1).reshape(-1),
    )


def zipf_ids(
    random: np.random.Generator, num_rows: int, exponent: float, shape: tuple[int, int]
) -> np.ndarray:
    """Draw int32 ids k in [0, num_rows) with probability ~ (k + 1) ** -exponent."""
    cumulative = np.cumsum(np.arange(1, num_rows + 1, dtype=np.float64) ** -exponent)
    draws = random.random(shape) * cumulative[-1]
    ids = np.searchsorted(cumulative, draws, side="right")
    found: np.ndarray = np.minimum(ids, num_rows - 1).astype(np.int32)
    return found
