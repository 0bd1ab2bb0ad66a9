"""Rows read and rows changed are counted from real batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dlrm.bench.traffic import traffic_of
from dlrm.bench.workload import workload_dataset
from dlrm.config.workload import WorkloadConfig
from dlrm.data.loading.loader import BatchLoader
from dlrm.data.loading.order import RowOrder
from dlrm.data.storage.dataset import Dataset


def test_repeated_ids_are_read_again_and_changed_once(tmp_path: Path):
    # One row in one table, and bags of five ids of at most two rows in the other.
    workload = WorkloadConfig(
        name="t", table_rows=[1, 2], bag_lengths=[1, 5], num_dense=1, num_rows=400
    )
    dataset = Dataset.open(workload_dataset(workload, prepared=str(tmp_path)))
    sparse = [
        dataclasses.replace(
            fitted, feature=dataclasses.replace(fitted.feature, embedding_dim=4)
        )
        for fitted in dataset.schema.sparse
    ]
    schema = dataclasses.replace(dataset.schema, sparse=tuple(sparse))
    loader = BatchLoader(
        dataset.split("train"),
        dataset.schema,
        order=RowOrder(400, seed=0, shuffle=True),
        global_batch_size=100,
        prefetch_batches=0,
    )
    found = traffic_of(loader, schema)
    assert found["examples"] == 100
    assert found["ids"] == 600
    assert found["distinct"] == 3
    assert found["read_bytes"] == pytest.approx(600 * 4 * 4)
    assert found["changed_bytes"] == pytest.approx(3 * 4 * 4)
    assert (found["width"], found["largest_rows"]) == (4, 2)
