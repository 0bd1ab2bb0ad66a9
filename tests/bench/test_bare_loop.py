"""The yardstick is a real training loop: it computes a DLRM and it learns."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from dlrm.bench.bare_loop import BareLoop
from dlrm.bench.embedding_bags import EmbeddingBagsLoop
from dlrm.bench.yardstick import BareBatch, Shape, bare_batch
from dlrm.config.optimizer import (
    DenseOptimizer,
    OptimizerConfig,
    SparseOptimizer,
    SparseOptimizerName,
)
from tests.builders import random_batch, small_schema

NAMES = SparseOptimizerName
SCHEMA = small_schema()
DOT = Shape(
    table_rows=tuple(feature.num_embeddings for feature in SCHEMA.sparse),
    num_dense=2,
    width=4,
    bottom_mlp=(5,),
    top_mlp=(6,),
)
CROSS = dataclasses.replace(DOT, cross_layers=2, cross_rank=3)
SHAPES = pytest.mark.parametrize("shape", [DOT, CROSS], ids=["dot", "cross"])


def optimizer(name: SparseOptimizerName = NAMES.sgd) -> OptimizerConfig:
    return OptimizerConfig(
        sparse=SparseOptimizer(name=name, lr=0.1),
        dense=DenseOptimizer(name="sgd", lr=0.1),
    )


def loop(
    batch: BareBatch, *, shape: Shape = DOT, name: SparseOptimizerName = NAMES.sgd
) -> BareLoop:
    torch.manual_seed(0)
    return BareLoop(shape, optimizer=optimizer(name), batches=[batch])


@pytest.fixture
def batch() -> BareBatch:
    return bare_batch(random_batch(SCHEMA, num_rows=16))


def vectors_of_row(bare: BareLoop, batch: BareBatch, row: int) -> list[torch.Tensor]:
    """Return the dense vector and each bag's sum, from the definition."""
    found = [bare.bottom_mlp(batch.dense[row])]
    size = batch.labels.shape[0]
    for index, table in enumerate(bare.tables.split_embedding_weights()):
        first, last = batch.offsets[index * size + row : index * size + row + 2]
        ids = batch.indices[first:last]
        found.append(sum((table[i] for i in ids), torch.zeros(4)))
    return found


def interacted(bare: BareLoop, vectors: list[torch.Tensor]) -> torch.Tensor:
    """Return what the top MLP takes in of one row, from the papers' words."""
    if bare.shape.cross_layers:
        first = crossed = torch.cat(vectors)
        layers = list(bare.cross)
        for down, up in zip(layers[::2], layers[1::2], strict=True):
            crossed = first * (up.weight @ down.weight @ crossed + up.bias) + crossed
        return crossed
    pairs = [
        torch.dot(vectors[i], vectors[j])
        for i in range(len(vectors))
        for j in range(i + 1, len(vectors))
    ]
    return torch.cat([vectors[0], torch.stack(pairs)])


def expected_logits(bare: BareLoop, batch: BareBatch) -> torch.Tensor:
    rows = [
        bare.top_mlp(interacted(bare, vectors_of_row(bare, batch, row)))
        for row in range(batch.labels.shape[0])
    ]
    return torch.cat(rows)


def loss_of(logits: torch.Tensor, batch: BareBatch) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)


@SHAPES
def test_logits_are_those_of_the_definition(batch: BareBatch, shape: Shape):
    bare = loop(batch, shape=shape)
    with torch.no_grad():
        torch.testing.assert_close(bare.logits(batch), expected_logits(bare, batch))


@SHAPES
def test_a_step_moves_parameters_as_the_definitions_gradient_says(
    batch: BareBatch, shape: Shape
):
    bare = loop(batch, shape=shape)
    parameters = bare.parameters
    loss = loss_of(expected_logits(bare, batch), batch)
    gradients = torch.autograd.grad(loss, parameters)
    before = [p.detach().clone() for p in parameters]
    assert bare.run(1) == 16
    for old, new, gradient in zip(before, parameters, gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * gradient)


@pytest.mark.parametrize("name", [NAMES.sgd, NAMES.adagrad, NAMES.rowwise_adagrad])
def test_the_loss_of_a_repeated_batch_falls(
    batch: BareBatch, name: SparseOptimizerName
):
    bare = loop(batch, name=name)
    with torch.no_grad():
        before = float(loss_of(bare.logits(batch), batch))
        rows = bare.tables.split_embedding_weights()[0].clone()
    bare.run(300)
    with torch.no_grad():
        assert float(loss_of(bare.logits(batch), batch)) < 0.99 * before
    assert not torch.equal(bare.tables.split_embedding_weights()[0], rows)


def test_predicting_changes_nothing(batch: BareBatch):
    bare = loop(batch)
    before = [p.detach().clone() for p in bare.parameters]
    assert bare.predict(3) == 48
    for old, new in zip(before, bare.parameters, strict=True):
        assert torch.equal(old, new.detach())


def test_separate_bags_give_the_bare_loops_logits_up_to_the_order_of_pairs(
    batch: BareBatch,
):
    bare = loop(batch)
    bags = EmbeddingBagsLoop(DOT, optimizer=optimizer(), batches=[batch])
    for table, rows in zip(
        bags.tables, bare.tables.split_embedding_weights(), strict=True
    ):
        table.weight.data.copy_(rows)
    bags.bottom_mlp.load_state_dict(bare.bottom_mlp.state_dict())
    state = bare.top_mlp.state_dict()
    # Pairs are taken row by row of the lower triangle there, of the upper one here.
    upper = {
        (i, j): place
        for place, (i, j) in enumerate(
            (i, j) for i in range(4) for j in range(i + 1, 4)
        )
    }
    lower = [upper[j, i] for i in range(4) for j in range(i)]
    order = [*range(4), *(4 + place for place in lower)]
    state["0.weight"] = state["0.weight"][:, order]
    bags.top_mlp.load_state_dict(state)
    with torch.no_grad():
        expected = bare.logits(batch)
        torch.testing.assert_close(bags.logits(next(bags.batches)), expected)


def test_separate_bags_learn_with_sparse_gradients(batch: BareBatch):
    torch.manual_seed(0)
    bags = EmbeddingBagsLoop(DOT, optimizer=optimizer(), batches=[batch])
    cut = next(bags.batches)
    with torch.no_grad():
        before = float(loss_of(bags.logits(cut), batch))
    assert bags.run(300) == 300 * 16
    assert all(table.weight.grad.is_sparse for table in bags.tables)
    with torch.no_grad():
        assert float(loss_of(bags.logits(cut), batch)) < 0.99 * before
