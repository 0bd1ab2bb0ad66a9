from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling
from dlrm.config.schema import FeatureSchema
from dlrm.embeddings.local import to_local
from dlrm.models.inputs import FieldVectors, FlatInput, LinearTerms, check_num_fields
from tests.builders import random_batch, small_schema
from tests.models.harness import (
    SGD,
    field_vectors,
    flat_input,
    linear_terms,
    mixed_schema,
    numpy_state,
    random_state,
    tables,
)


class Holder(nn.Module):
    """A module with one input under a name, as models hold it."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part


def hold(part: nn.Module) -> Holder:
    holder = Holder(part)
    to_local(holder, optimizer=SGD, device=torch.device("cpu"))
    for table in tables(holder).values():
        table.copy_(torch.randn_like(table))
    random_state(holder)
    return holder


def schemas() -> list[FeatureSchema]:
    return [
        mixed_schema(),
        small_schema(num_dense=0, widths=(4, 4)),
        small_schema(num_dense=3, widths=()),
    ]


@pytest.mark.parametrize("schema", schemas())
def test_fields_are_dense_vectors_then_sparse_ones_of_one_width(schema):
    holder = hold(FieldVectors(schema, embedding_dim=4))
    batch = random_batch(schema, num_rows=9)
    found = holder.part(batch).detach().numpy()
    expected = np.stack(
        field_vectors(numpy_state(holder), "part", batch, schema), axis=1
    )
    assert found.shape == (9, holder.part.num_fields, 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("schema", schemas())
def test_a_flat_input_is_dense_columns_then_embeddings_as_wide_as_they_are(schema):
    holder = hold(FlatInput(schema))
    batch = random_batch(schema, num_rows=9)
    found = holder.part(batch).detach().numpy()
    assert found.shape == (9, holder.part.output_dim)
    expected = flat_input(numpy_state(holder), "part", batch, schema)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("schema", schemas())
def test_linear_terms_are_a_bias_and_a_weight_a_column_and_id(schema):
    holder = hold(LinearTerms(schema))
    batch = random_batch(schema, num_rows=9)
    found = holder.part(batch).detach().numpy()
    expected = linear_terms(numpy_state(holder), "part", batch, schema)
    assert found.shape == (9, 1)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_a_linear_table_reads_the_ids_of_a_feature_pooled_in_another_group():
    schema = small_schema(widths=(4, 3), pooling=Pooling.max)
    assert len(schema.groups) == 2
    holder = hold(LinearTerms(schema))
    batch = random_batch(schema, num_rows=9)
    expected = linear_terms(numpy_state(holder), "part", batch, schema)
    found = holder.part(batch).detach().numpy()
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_dropout_falls_on_embeddings_alone():
    schema = mixed_schema()
    batch = random_batch(schema, num_rows=200)
    flat = hold(FlatInput(schema, dropout=0.5)).part
    found = flat(batch)
    assert torch.equal(found[:, :2], batch.dense)
    assert 0.3 < (found[:, 2:14] == 0).float().mean() < 0.7
    fields = hold(FieldVectors(schema, embedding_dim=4, dropout=0.5)).part
    found = fields(batch)
    assert (found[:, :2] != 0).all()
    assert 0.3 < (found[:, 2:4] == 0).float().mean() < 0.7


def test_fewer_than_two_fields_make_no_pair():
    check_num_fields(small_schema(num_dense=1, widths=(4,)), model="fm")
    with pytest.raises(ConfigError, match="model=fm pairs fields .* the data has 1"):
        check_num_fields(small_schema(num_dense=1, widths=()), model="fm")
