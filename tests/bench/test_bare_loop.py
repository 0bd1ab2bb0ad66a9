"""The yardstick is a real training loop: it computes a DLRM and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dlrm.bench.bare_loop import BareBatch, BareLoop, bare_batch
from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.models.dlrm import DLRMConfig
from tests.builders import random_batch, small_schema

NAMES = SparseOptimizerName
SCHEMA = small_schema()
MODEL = DLRMConfig(name="dlrm", embedding_dim=4, bottom_mlp=[5], top_mlp=[6])


def loop(batch: BareBatch, *, name: SparseOptimizerName = NAMES.sgd) -> BareLoop:
    torch.manual_seed(0)
    return BareLoop(
        table_rows=[feature.num_embeddings for feature in SCHEMA.sparse],
        num_dense=2,
        model=MODEL,
        sparse=SparseOptimizer(name=name, lr=0.1),
        dense_lr=0.1,
        batches=[batch],
    )


@pytest.fixture
def batch() -> BareBatch:
    return bare_batch(random_batch(SCHEMA, num_rows=16))


def logits(bare: BareLoop, batch: BareBatch) -> torch.Tensor:
    """Return the logits by loops over rows, bags and pairs, from the papers' words."""
    tables = bare.tables.split_embedding_weights()
    found = []
    size = batch.labels.shape[0]
    for row in range(size):
        dense = bare.bottom_mlp(batch.dense[row])
        vectors = [dense]
        for index, table in enumerate(tables):
            first, last = batch.offsets[index * size + row : index * size + row + 2]
            ids = batch.indices[first:last]
            vectors.append(sum((table[i] for i in ids), torch.zeros(4)))
        pairs = [
            torch.dot(vectors[i], vectors[j])
            for i in range(len(vectors))
            for j in range(i + 1, len(vectors))
        ]
        found.append(bare.top_mlp(torch.cat([dense, torch.stack(pairs)])))
    return torch.cat(found)


def loss(bare: BareLoop, batch: BareBatch) -> float:
    with torch.no_grad():
        return float(
            nn.functional.binary_cross_entropy_with_logits(
                logits(bare, batch), batch.labels
            )
        )


@pytest.mark.parametrize("name", [NAMES.sgd, NAMES.adagrad, NAMES.rowwise_adagrad])
def test_the_loss_of_a_repeated_batch_falls(
    batch: BareBatch, name: SparseOptimizerName
):
    bare = loop(batch, name=name)
    before = loss(bare, batch)
    bare.run(300)
    assert loss(bare, batch) < 0.99 * before


def test_a_step_moves_parameters_as_the_definitions_gradient_says(batch: BareBatch):
    bare = loop(batch)
    expected = nn.functional.binary_cross_entropy_with_logits(
        logits(bare, batch), batch.labels
    )
    parameters = [*bare.bottom_mlp.parameters(), *bare.top_mlp.parameters()]
    gradients = torch.autograd.grad(expected, parameters)
    before = [p.detach().clone() for p in parameters]
    bare.run(1)
    for old, new, gradient in zip(before, parameters, gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * gradient)


def test_a_batch_is_copied_with_its_ids_feature_after_feature():
    batch = random_batch(SCHEMA, num_rows=3)
    bare = bare_batch(batch)
    assert (bare.indices.dtype, bare.offsets.dtype) == (torch.int64, torch.int64)
    lengths = np.diff(bare.offsets.numpy()).reshape(3, 3)
    assert (lengths[:2] == 1).all()
    assert torch.equal(bare.labels, batch.labels)
    assert bare.dense.data_ptr() != batch.dense.data_ptr()


def test_an_optimizer_that_the_kernels_lack_is_refused_by_name(batch: BareBatch):
    with pytest.raises(
        ConfigError, match=r"has sgd, adagrad, rowwise_adagrad, but .* is adam\."
    ):
        loop(batch, name=NAMES.adam)
