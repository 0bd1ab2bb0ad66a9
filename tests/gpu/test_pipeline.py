"""Sharded training on a GPU: with batches sent ahead, and with vectors rounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from dlrm.config.sharding import (
    CommunicationConfig,
    Precision,
    ShardingConfig,
    Strategy,
)
from dlrm.data.batch import Batch
from dlrm.distributed.context import ProcessContext
from dlrm.distributed.process_group import process_group
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.models import build_model, model_config
from dlrm.optim.dense import dense_parameters
from dlrm.pipeline import BatchPipeline
from tests.builders import random_batch
from tests.embeddings.sharded.cases import initial_values, place
from tests.models.harness import SGD, mixed_schema, preset
from tests.models.sharded_jobs import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
GPU = torch.device("cuda", 0)
SCHEMA = mixed_schema()
NUM_STEPS = 5


@pytest.fixture
def group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    store = f"file://{tmp_path / 'store'}"
    with process_group(ProcessContext(), device=GPU, init_method=store) as group:
        yield group


def sharded(
    group: dist.ProcessGroup, name: str, sharding: ShardingConfig | None = None
) -> nn.Module:
    torch.manual_seed(0)
    section = preset(name)
    model = build_model(model_config(section), SCHEMA)
    initial: InitialValues = initial_values()
    to_sharded(
        model,
        plan=place(model, {}, 1, default=Strategy.table_wise),
        optimizer=SGD,
        group=group,
        device=GPU,
        initial=initial,
        sharding=sharding,
    )
    return model.to(GPU)


def batches() -> list[Batch]:
    return [
        random_batch(SCHEMA, num_rows=32, seed=seed).pin_memory()
        for seed in range(NUM_STEPS)
    ]


def losses(group: dist.ProcessGroup, name: str, *, ahead: bool) -> list[float]:
    model = sharded(group, name)
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    pipeline = BatchPipeline(model, GPU, ahead=ahead)
    found = []
    for _ in range(2):
        for batch in pipeline.batches(batches()):
            on_gpu = batch.to(GPU, non_blocking=True)
            found.append(train_step(model, on_gpu, optimizer, group))
    assert pipeline.num_pipelined == (1 if ahead else 0)
    return found


@pytest.mark.parametrize("name", ["dlrm", "dcnv2"])
def test_batches_sent_ahead_train_what_others_train(
    name: str, group: dist.ProcessGroup
):
    plain = losses(group, name, ahead=False)
    assert losses(group, name, ahead=True) == pytest.approx(plain, rel=1e-4)
    assert len(plain) == 2 * NUM_STEPS


def test_a_gpu_has_its_batches_sent_ahead_by_itself(group: dist.ProcessGroup):
    model = sharded(group, "dlrm")
    pipeline = BatchPipeline(model, GPU)
    first = next(pipeline.batches(batches()))
    assert first.dense.is_cuda
    assert pipeline.num_pipelined == 1


@pytest.mark.parametrize("kind", [Precision.fp16, Precision.bf16])
def test_rounded_vectors_give_nearly_the_same_logits(
    kind: Precision, group: dist.ProcessGroup
):
    communication = CommunicationConfig(forward=kind, backward=kind)
    rounding = ShardingConfig(exact=False, communication=communication)
    batch = batches()[0].to(GPU)
    exact = sharded(group, "dlrm")(batch)
    rounded = sharded(group, "dlrm", rounding)(batch)
    rounded.sum().backward()
    np.testing.assert_allclose(
        rounded.detach().cpu().numpy(), exact.detach().cpu().numpy(), atol=0.05
    )
