"""What the plan promises of a GPU's memory, beside what the GPU allocates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.config.optimizer import DenseOptimizer, SparseOptimizer, SparseOptimizerName
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.process_group import process_group
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.models import build_model, model_config
from dlrm.optim.dense import build_dense_optimizer, dense_parameters
from dlrm.planning.memory import plan_memory
from dlrm.planning.plan import plan_model
from tests.models.sharded_jobs import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
GPU = torch.device("cuda", 0)
ROWS = [2_000_000, 1_000_000, 500_000, 10_000]
BATCH_SIZE = 16_384
SPARSE = SparseOptimizer(name=SparseOptimizerName.adagrad, lr=0.1)
DENSE = DenseOptimizer(name="Adam")
SECTION = {
    "name": "dlrm_dcnv2",
    "embedding_dim": 128,
    "bottom_mlp": [512, 256],
    "top_mlp": [1024, 512],
    "cross_rank": 256,
}


@pytest.fixture
def group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    store = f"file://{tmp_path / 'store'}"
    with process_group(ProcessContext(), device=GPU, init_method=store) as group:
        yield group


def schema() -> FeatureSchema:
    return FeatureSchema(
        name="measured",
        label="label",
        dense=tuple(
            FittedDense(name=f"d{i}", feature=DenseFeature()) for i in range(13)
        ),
        sparse=tuple(
            FittedSparse(
                name=f"s{i}",
                feature=SparseFeature(embedding_dim=128),
                table=f"s{i}",
                num_embeddings=rows,
            )
            for i, rows in enumerate(ROWS)
        ),
    )


def batch(seed: int) -> Batch:
    random = np.random.default_rng(seed)
    rows = EncodedRows(
        labels=random.integers(0, 2, BATCH_SIZE).astype(np.float32),
        weights=np.ones(BATCH_SIZE, dtype=np.float32),
        dense=random.normal(size=(BATCH_SIZE, 13)).astype(np.float32),
        one_hot=np.stack(
            [random.integers(0, n, BATCH_SIZE, dtype=np.int32) for n in ROWS], axis=1
        ),
        bag_lengths=np.zeros((BATCH_SIZE, 0), dtype=np.int32),
        bag_values=np.zeros(0, dtype=np.int32),
    )
    return collate(rows, np.arange(BATCH_SIZE, dtype=np.int64), schema())


def test_the_plan_is_within_a_sixth_of_what_the_gpu_allocates(
    group: dist.ProcessGroup,
):
    model = build_model(model_config(SECTION), schema())
    sharding = ShardingConfig(strategy=Strategy.table_wise)
    planned = plan_model(
        model,
        sharding=sharding,
        hardware=None,
        optimizer=SPARSE,
        world_size=1,
        ranks_per_node=1,
        device_type="cuda",
        global_batch_size=BATCH_SIZE,
        schema=schema(),
        dense_optimizer=DENSE,
    )
    (promised,) = plan_memory(planned.plan, planned.loads, planned.dense, planned.shape)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    to_sharded(
        model, plan=planned.plan, optimizer=SPARSE, group=group, device=GPU,
        sharding=sharding,
    )  # fmt: skip
    model.to(GPU)
    optimizer = build_dense_optimizer(dense_parameters(model), DENSE)
    for step in range(3):
        train_step(model, batch(step).to(GPU), optimizer, group)
    allocated = torch.cuda.max_memory_allocated() - before
    assert promised.device.total == pytest.approx(allocated, rel=0.15)
