"""Vectors and gradients of random schemas against the definitions."""

from __future__ import annotations

import dataclasses

import torch
from hypothesis import given, settings
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local
from dlrm.embeddings.names import module_name
from tests.embeddings.feature_cases import (
    Case,
    Expected,
    batch_of,
    cases,
    expected_of,
    fill,
    row_uses,
)
from tests.embeddings.oracle import CPU
from tests.embeddings.schemas import weight_of

NUM_PLAIN_CASES = 200
NUM_DERIVED_CASES = 100
NUM_LOCAL_CASES = 300

EVERY_RUN = settings(deadline=None, derandomize=True, database=None)


@settings(EVERY_RUN, max_examples=NUM_PLAIN_CASES)
@given(case=cases())
def test_vectors_and_gradients_are_those_of_the_definitions(case: Case):
    embeddings = FeatureEmbeddings(case.schema).to_empty(device=CPU)
    fill(embeddings, case)
    expected = check_dense_half(case, embeddings, batch_of(case))
    for table, weight in expected.tables.items():
        close(weight_of(embeddings, table).grad, weight.grad)


@settings(EVERY_RUN, max_examples=NUM_DERIVED_CASES)
@given(data=cases())
def test_derived_tables_read_batches_of_the_data_as_the_definitions_do(data: Case):
    derived = data.schema.derived("linear", embedding_dim=2)
    case = dataclasses.replace(data, schema=derived)
    embeddings = FeatureEmbeddings(derived, batch_groups=data.schema.groups)
    fill(embeddings.to_empty(device=CPU), case)
    expected = check_dense_half(case, embeddings, batch_of(data))
    for table, weight in expected.tables.items():
        close(weight_of(embeddings, table).grad, weight.grad)


@settings(EVERY_RUN, max_examples=NUM_LOCAL_CASES)
@given(case=cases(trained=True))
def test_a_step_of_local_tables_is_that_of_the_definitions(case: Case):
    embeddings = FeatureEmbeddings(case.schema)
    sgd = SparseOptimizer(name=SparseOptimizerName.sgd, lr=1.0)
    to_local(embeddings, optimizer=sgd, device=CPU)
    fill(embeddings, case)
    # fbgemm's permute of a part of the features gives no gradient to their weights.
    whole = all(len(c.kernels) == 1 for c in embeddings.collections.values())
    sparse = batch_of(case, learned_weights=whole)
    expected = check_dense_half(case, embeddings, sparse)
    for table, weight in expected.tables.items():
        gradient = weight.grad
        if case.schema.options(table).scale_grad_by_freq:
            rows = torch.tensor(row_uses(case, table), dtype=torch.int64)
            uses = torch.bincount(rows, minlength=len(weight)).clamp(min=1)
            gradient = gradient / uses[:, None]
        close(weight_of(embeddings, table), weight.detach() - gradient)


def check_dense_half(
    case: Case, embeddings: FeatureEmbeddings, sparse: dict[str, KeyedJaggedTensor]
) -> Expected:
    """Check vectors and the gradients of weights and queries; run both backwards."""
    expected = expected_of(case, embeddings)
    vectors = embeddings(sparse)
    random = torch.Generator().manual_seed(case.seed)
    loss, expected_loss = torch.zeros(()), torch.zeros((), dtype=torch.float64)
    for vector, wanted in zip(vectors, expected.vectors, strict=True):
        close(vector, wanted.detach())
        factors = torch.randn(vector.shape, generator=random)
        loss = loss + (factors * vector).sum()
        expected_loss = expected_loss + (factors * wanted).sum()
    loss.backward()
    expected_loss.backward()
    for name, query in expected.queries.items():
        close(embeddings.queries[module_name(name)].query.grad, query.grad)
    for bags in sparse.values():
        weights = bags.weights_or_none()
        if weights is not None and weights.requires_grad:
            names: list[str] = bags.keys()
            wanted = torch.cat([expected.weights[name].grad for name in names])
            close(weights.grad, wanted)
    return expected


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=2e-5)
