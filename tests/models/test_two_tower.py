from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.config.errors import ConfigError
from dlrm.config.task import TaskName
from dlrm.data.document_keys import DocumentKeys
from dlrm.embeddings.local import to_plain
from dlrm.layers.in_batch_softmax import in_batch_softmax
from dlrm.models import build_model, check_task, model_config
from tests.builders import random_batch, small_schema
from tests.models.harness import (
    bags,
    build,
    mixed_schema,
    mlp,
    numpy_state,
    preset,
    random_state,
    tables,
)

SIDES = {"query_features": ["s0", "d1"], "document_features": ["d0", "s2", "s1"]}


def section(**settings):
    return preset("two_tower", **{"tower_mlp": [8, 5], **SIDES, **settings})


def vectors(model, batch):
    model.eval()
    with torch.no_grad():
        return model(batch).numpy()


def tower_by_definition(state, side, batch, schema, features):
    """Return one side's vectors before normalisation, [B, D]."""
    sparse = [
        bags(state, "embeddings", batch, f) for f in schema.sparse if f.name in features
    ]
    dense = batch.dense.numpy().astype(np.float64)
    columns = [i for i, f in enumerate(schema.dense) if f.name in features]
    return mlp(state, f"{side}.mlp", np.concatenate([*sparse, dense[:, columns]], 1))


@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_those_of_the_definition(normalize):
    schema = mixed_schema()
    model = build(schema, section(normalize=normalize, temperature=0.25))
    random_state(model)
    batch, state = random_batch(schema, num_rows=9), numpy_state(model)
    expected = []
    for side, scale in (("query", 1 / 0.25), ("document", 1.0)):
        x = tower_by_definition(state, side, batch, schema, SIDES[f"{side}_features"])
        if normalize:
            x = x / np.sqrt((x * x).sum(axis=1, keepdims=True))
        expected.append(scale * x)
    found = vectors(model, batch)
    assert found.shape == (9, 2, 5)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-5, atol=1e-5)


def test_without_layers_a_tower_is_its_inputs_side_by_side():
    schema = small_schema(num_dense=0, widths=(4, 8, 4))
    sides = {"query_features": ["s1"], "document_features": ["s2", "s0"]}
    model = build(
        schema, section(**sides, tower_mlp=[], normalize=False, temperature=1)
    )
    batch, state = random_batch(schema, num_rows=5), numpy_state(model)
    s0, s1, s2 = (bags(state, "embeddings", batch, f) for f in schema.sparse)
    found = vectors(model, batch)
    np.testing.assert_allclose(found[:, 0], s1, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], np.concatenate([s0, s2], 1), rtol=1e-6)


def test_a_row_of_nothing_has_finite_vectors_and_gradients():
    schema = small_schema(num_dense=0, widths=(4, 4))
    sides = {"query_features": ["s0"], "document_features": ["s1"]}
    model = build(schema, section(**sides, tower_mlp=[]))
    batch = random_batch(schema, num_rows=40)
    assert (batch.sparse["pooled"]["s1"].lengths() == 0).any()
    found = model(batch)
    assert found.isfinite().all()
    found.sum().backward()
    assert all(table.isfinite().all() for table in tables(model).values())


def in_batch_loss(model, batch, keys):
    found, all_rows = model(batch), torch.ones(len(batch), dtype=torch.bool)
    return in_batch_softmax(
        found[:, 0],
        found[:, 1],
        keys(batch),
        is_query_B=all_rows,
        is_candidate_B=all_rows,
    ).mean()


def test_loss_falls_and_every_parameter_and_table_learns():
    schema = mixed_schema()
    model, batch = build(schema, section()), random_batch(schema, num_rows=32)
    keys = DocumentKeys.of(schema, SIDES["document_features"])
    before = {key: table.clone() for key, table in tables(model).items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    first = in_batch_loss(model, batch, keys).item()
    for _ in range(40):
        loss = in_batch_loss(model, batch, keys)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert in_batch_loss(model, batch, keys).item() < 0.8 * first
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    for key, table in tables(model).items():
        assert not torch.equal(table, before[key]), key


def test_a_state_makes_another_model_the_same_and_so_does_a_swap_to_plain_tables():
    schema = mixed_schema()
    first, second = (build(schema, section(), seed=seed) for seed in (0, 1))
    batch = random_batch(schema, num_rows=9)
    random_state(first)
    expected = vectors(first, batch)
    assert not np.array_equal(expected, vectors(second, batch))
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(expected, vectors(second, batch))
    to_plain(first)
    np.testing.assert_allclose(vectors(first, batch), expected, atol=1e-6)


@pytest.mark.parametrize(("num_dense", "widths"), [(2, ()), (0, (4, 8)), (1, (3,))])
def test_two_features_of_any_kind_are_enough(num_dense, widths):
    schema = small_schema(num_dense=num_dense, widths=widths)
    names = [f.name for f in (*schema.sparse, *schema.dense)]
    sides = {"query_features": names[:1], "document_features": names[1:]}
    model = build(schema, section(**sides))
    assert model(random_batch(schema, num_rows=3)).shape == (3, 2, 5)
    assert model(random_batch(schema, num_rows=0)).shape == (0, 2, 5)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (
            {"query_features": []},
            r"model\.query_features must name .* is empty.*\[s0\]",
        ),
        ({"query_features": ["s0", "d1", "s9"]}, "'s9' is none.*It has: s0, s1, s2"),
        ({"query_features": ["s0"]}, "'d1' is in neither.*~data.sparse_features.d1"),
        ({"query_features": ["s0", "d1", "s1"]}, "'s1' is named 2 times"),
        ({"query_features": ["s0", "d1", "s0"]}, "'s0' is named 2 times"),
    ],
)
def test_towers_that_do_not_share_out_the_features_are_refused(sides, message):
    config = model_config(section(**sides))
    with pytest.raises(ConfigError, match=message):
        build_model(config, mixed_schema())


def test_towers_of_two_widths_are_refused():
    config = model_config(section(tower_mlp=[]))
    with pytest.raises(ConfigError, match="query's are 5 wide and the document's 12"):
        build_model(config, mixed_schema())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, r"model\.temperature must be above 0, but it is 0"),
        ({"tower_mlp": [8, 0]}, r"model\.tower_mlp must be .*\[8, 0\]"),
        ({"dropout": 1.0}, r"model\.dropout must be in \[0, 1\), but it is 1"),
    ],
)
def test_values_out_of_range_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        model_config(section(**setting))


def test_towers_are_for_retrieval_and_nothing_else_is():
    towers, dnn = model_config(section()), model_config(preset("dnn"))
    check_task(towers, TaskName.retrieval)
    check_task(dnn, TaskName.click)
    with pytest.raises(ConfigError, match=r"task\.name must be retrieval.*is click"):
        check_task(towers, TaskName.click)
    with pytest.raises(ConfigError, match=r"model\.name must be .*two_tower.*but dnn"):
        check_task(dnn, TaskName.retrieval)
