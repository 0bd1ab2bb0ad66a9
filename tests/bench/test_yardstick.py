"""There is a yardstick for what it can be compared with, and a reason for the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dlrm.bench.workload import workload_data, workload_dataset
from dlrm.bench.yardstick import (
    Shape,
    bare_batch,
    batches_in_memory,
    refusal,
    shape_of,
    torch_optimizer,
)
from dlrm.config.compose import compose
from dlrm.config.optimizer import DenseOptimizer
from dlrm.config.root import Config
from dlrm.config.schema import FeatureSchema
from dlrm.data.storage.dataset import Dataset
from dlrm.run import model_schema
from tests.bench.tiny import TINY
from tests.builders import random_batch, small_schema


def case(folder: Path, *settings: str) -> tuple[Config, FeatureSchema]:
    """Return a configuration on the tiny workload, and its model's schema."""
    config = compose([f"data.prepared={folder}", *settings])
    data = workload_data(TINY, prepared=str(folder))
    config = dataclasses.replace(config, data=data, workload=TINY)
    schema = Dataset.open(workload_dataset(TINY, prepared=str(folder))).schema
    return config, model_schema(config, schema)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


MODEL = ("model.embedding_dim=4", "model.bottom_mlp=[8]", "model.top_mlp=[8,5]")


def test_a_dot_has_a_shape(folder: Path):
    assert shape_of(*case(folder, *MODEL)) == Shape(
        table_rows=(50, 3, 40),
        num_dense=3,
        width=4,
        bottom_mlp=(8,),
        top_mlp=(8, 5),
    )


@pytest.mark.parametrize(
    "settings",
    [
        ("model=dlrm_dcnv2", "model.cross_rank=7"),
        ("model.interaction=dcn_v2", "model.cross=low_rank", "model.cross_rank=7"),
    ],
    ids=["dlrm_dcnv2", "dlrm"],
)
def test_a_low_rank_cross_has_a_shape(folder: Path, settings: tuple[str, ...]):
    found = shape_of(*case(folder, *settings))
    assert isinstance(found, Shape)
    assert (found.cross_layers, found.cross_rank, found.top_dim) == (3, 7, 4 * 16)


SGD = ("optimizer.sparse.name=sgd", "optimizer.dense.name=SGD")


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("bare", (), None),
        ("bare", ("optimizer.sparse.name=adam",), "optimizer.sparse.name=adam"),
        ("bare", ("model=deepfm",), "it is a DLRM, but model=deepfm"),
        ("bare", ("model.interaction=cat",), "model.interaction=cat"),
        ("bare", ("model.interaction=dcn_v2",), "model.interaction=dcn_v2"),
        ("bare", ("model.dropout=0.1",), "no dropout"),
        ("embedding_bags", SGD, None),
        ("embedding_bags", (), "one torch.optim.SGD for all"),
        ("embedding_bags", (*SGD, "model=dlrm_dcnv2"), "dot interaction alone"),
        ("embedding_bags", (*SGD, "trainer.device=cuda"), "trainer.device=cuda"),
    ],
)
def test_what_cannot_be_compared_has_a_reason(
    folder: Path, name: str, settings: tuple[str, ...], reason: str | None
):
    found = refusal(name, *case(folder, *settings))
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found


def test_batches_in_memory_are_whole_and_shuffled(folder: Path):
    config, _ = case(folder, "trainer.global_batch_size=700")
    dataset = Dataset.open(workload_dataset(TINY, prepared=str(folder)))
    found = batches_in_memory(config, dataset, device=torch.device("cpu"))
    # 3,000 rows: four whole batches, and one of 200 that is left out.
    assert [len(batch.labels) for batch in found] == [700] * 4
    first_rows = dataset.split("train").slice(0, 700)
    assert not np.array_equal(found[0].dense.numpy(), first_rows.dense)


def test_a_batch_is_copied_with_its_ids_feature_after_feature():
    batch = random_batch(small_schema(), num_rows=3)
    bare = bare_batch(batch)
    assert (bare.indices.dtype, bare.offsets.dtype) == (torch.int64, torch.int64)
    lengths = np.diff(bare.offsets.numpy()).reshape(3, 3)
    assert (lengths[:2] == 1).all()
    assert torch.equal(bare.labels, batch.labels)
    assert bare.dense.data_ptr() != batch.dense.data_ptr()


def test_torchs_optimizer_is_found_in_any_case():
    parameter = torch.nn.Parameter(torch.zeros(1))
    options = DenseOptimizer(name="sgd", lr=0.5, options={"momentum": 0.9})
    found = torch_optimizer([parameter], options)
    assert type(found) is torch.optim.SGD
    assert (found.defaults["lr"], found.defaults["momentum"]) == (0.5, 0.9)
