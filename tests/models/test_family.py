"""Claims that hold for every built-in model, but for two_tower's own in its file."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from dlrm.commands.code import import_code
from dlrm.config.compose import compose
from dlrm.config.errors import ConfigError
from dlrm.embeddings.local import to_plain
from dlrm.models import build_model, built_in_models, model_config
from tests.builders import random_batch, small_schema
from tests.models.harness import (
    ALL_MODELS,
    CLICK_MODELS,
    PRESETS,
    build,
    logits,
    mixed_schema,
    pooled_schema,
    preset,
    random_state,
    tables,
    weighted_batch,
)

NEED_PAIRS = {"dlrm": "interaction=dot", "fm": "model=fm", "deepfm": "model=deepfm"}
"""Models that a single field is not enough for, and what their refusal starts with."""


def click_loss(model: nn.Module, batch) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(
        model(batch).squeeze(1), batch.labels
    )


def test_every_model_has_the_preset_of_its_name():
    assert sorted(built_in_models()) == ALL_MODELS


@pytest.mark.parametrize("name", ALL_MODELS)
def test_every_preset_composes_to_its_models_config(name):
    config = model_config(compose([f"model={name}"]).model)
    assert config.name == name


@pytest.mark.parametrize("name", ALL_MODELS)
def test_every_preset_shows_its_models_defaults(name):
    config = model_config(compose([f"model={name}"]).model)
    assert config == type(config)(name=name)


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_loss_falls_and_every_parameter_and_table_learns(name):
    schema = mixed_schema()
    model = build(schema, preset(name))
    batch = random_batch(schema, num_rows=32)
    before = {key: table.clone() for key, table in tables(model).items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    first = click_loss(model, batch).item()
    for _ in range(40):
        loss = click_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert click_loss(model, batch).item() < 0.95 * first
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    for key, table in tables(model).items():
        assert not torch.equal(table, before[key]), key


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_a_state_makes_another_model_the_same(name):
    schema = mixed_schema()
    first, second = (build(schema, preset(name), seed=seed) for seed in (0, 1))
    batch = random_batch(schema, num_rows=9)
    random_state(first)
    assert not np.array_equal(logits(first, batch), logits(second, batch))
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(logits(first, batch), logits(second, batch))


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_a_model_of_plain_collections_gives_the_same_logits(name):
    schema = mixed_schema()
    model = build(schema, preset(name))
    batch = random_batch(schema, num_rows=9)
    before = logits(model, batch)
    to_plain(model)
    np.testing.assert_allclose(logits(model, batch), before, atol=1e-6)


@pytest.mark.parametrize("name", CLICK_MODELS)
@pytest.mark.parametrize(("num_dense", "widths"), [(3, ()), (0, (4, 8, 3))])
def test_one_kind_of_feature_alone_is_enough(name, num_dense, widths):
    schema = small_schema(num_dense=num_dense, widths=widths)
    section = preset(name)
    if name == "dlrm" and not widths:
        section["interaction"] = "cat"
    model = build(schema, section)
    found = model(random_batch(schema, num_rows=5))
    assert found.shape == (5, 1)
    assert found.isfinite().all()
    found.sum().backward()


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_a_single_field_is_enough_or_refused_by_name(name):
    schema = small_schema(num_dense=0, widths=(4,))
    if name in NEED_PAIRS:
        with pytest.raises(ConfigError, match=f"{NEED_PAIRS[name]} .*at least 2"):
            build_model(model_config(preset(name)), schema)
    else:
        model = build(schema, preset(name))
        assert model(random_batch(schema, num_rows=3)).shape == (3, 1)


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_bags_under_every_pooling_with_and_without_weights_are_learned(name):
    schema = pooled_schema()
    model = build(schema, preset(name))
    random_state(model)
    batch = weighted_batch(schema, num_rows=32)
    before = {key: table.clone() for key, table in tables(model).items()}
    click_loss(model, batch).backward()
    for key, table in tables(model).items():
        assert not torch.equal(table, before[key]), key
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_a_batch_without_rows_has_no_logits(name):
    schema = mixed_schema()
    model = build(schema, preset(name)).eval()
    assert model(random_batch(schema, num_rows=0)).shape == (0, 1)


def test_the_documented_model_of_ones_own_can_be_built(tmp_path):
    page = (PRESETS.parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "gated_fm.py").write_text(code, encoding="utf-8")
    import_code([tmp_path / "gated_fm.py"])
    schema = mixed_schema()
    model = build(schema, {"name": "gated_fm", "embedding_dim": 4})
    assert model(random_batch(schema, num_rows=3)).shape == (3, 1)


def test_an_unknown_setting_is_refused_by_every_model():
    for name in ALL_MODELS:
        with pytest.raises(ConfigError, match=r"model\.embeding_dim.*embedding_dim"):
            model_config(preset(name, embeding_dim=3))
