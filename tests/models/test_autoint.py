from __future__ import annotations

import numpy as np
import pytest

from dlrm.config.errors import ConfigError
from dlrm.models import model_config
from tests.layers.test_field_attention import attend
from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    field_vectors,
    mlp,
    numpy_state,
    preset,
)


@pytest.mark.parametrize("num_dense", [0, 2])
@pytest.mark.parametrize("deep", [False, True])
def test_logits_are_linear_in_the_fields_of_the_last_layer(num_dense, deep):
    """Song et al. 2019, equations 5 to 9; AutoInt+ adds an MLP on the vectors."""
    model, batch, schema = built_on_mixed_widths(
        "autoint", num_dense=num_dense, deep=deep, attention_layers=2, attention_dim=3
    )
    state = numpy_state(model)
    vectors = field_vectors(state, "fields", batch, schema)
    x = np.stack(vectors, axis=1)
    for layer in range(2):
        weight = state[f"attention.{layer}.query_key_value_residual.weight"]
        x = attend(x, weight, num_heads=2)
    expected = mlp(state, "logit", x.reshape(len(batch), -1))
    if deep:
        expected += mlp(state, "top_mlp", np.concatenate(vectors, axis=1))
    assert_logits(model, batch, expected)
    assert deep == any(name.startswith("top_mlp") for name in state)


@pytest.mark.parametrize(
    "key", ["attention_layers", "attention_heads", "attention_dim"]
)
def test_sizes_below_one_are_refused_by_their_key(key):
    with pytest.raises(ConfigError, match=rf"model\.{key} must be >= 1.* it is 0"):
        model_config(preset("autoint", **{key: 0}))
