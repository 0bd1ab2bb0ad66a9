from __future__ import annotations

import numpy as np
import pytest

from dlrm.config.errors import ConfigError
from dlrm.models import model_config
from tests.models.harness import (
    State,
    assert_logits,
    built_on_mixed_widths,
    field_vectors,
    linear,
    mlp,
    numpy_state,
    preset,
)


def standard(x: np.ndarray) -> np.ndarray:
    """Return rows with mean 0 and variance 1, as layer norm before its affine map."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)


def block(state: State, name: str, embeddings: np.ndarray, hidden: np.ndarray):
    """Return ReLU(LN(W (mask * hidden))) with the mask of the embeddings."""
    inner = np.maximum(linear(state, f"{name}.mask_in", embeddings), 0)
    masked = linear(state, f"{name}.mask_out", inner) * hidden
    out = standard(linear(state, f"{name}.linear", masked))
    return np.maximum(
        out * state[f"{name}.norm.weight"] + state[f"{name}.norm.bias"], 0
    )


@pytest.mark.parametrize("top_mlp", [[], [8]])
@pytest.mark.parametrize("order", ["serial", "parallel"])
def test_logits_are_those_of_the_paper(order, top_mlp):
    settings = {"block_order": order, "block_dim": 5, "mask_reduction": 0.5}
    model, batch, schema = built_on_mixed_widths("masknet", top_mlp=top_mlp, **settings)
    state = numpy_state(model)
    vectors = field_vectors(state, "fields", batch, schema)
    embeddings = np.concatenate(vectors, axis=1)
    affine = zip(vectors, state["norm_scale"], state["norm_shift"], strict=True)
    normed = np.concatenate([standard(v) * a + b for v, a, b in affine], axis=1)
    names = [f"blocks.{i}" for i in range(3)]
    if order == "serial":
        hidden = normed
        for name in names:
            hidden = block(state, name, embeddings, hidden)
    else:
        outputs = [block(state, name, embeddings, normed) for name in names]
        hidden = np.concatenate(outputs, axis=1)
    assert_logits(model, batch, mlp(state, "top_mlp", hidden))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_blocks": 0}, "model.num_blocks must be >= 1, but it is 0"),
        ({"block_dim": 0}, "model.block_dim must be >= 1, but it is 0"),
        ({"mask_reduction": 0.0}, "model.mask_reduction must be > 0, but it is 0.0"),
        ({"block_order": "stacked"}, "stacked"),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(setting, message):
    with pytest.raises(ConfigError, match=message):
        model_config(preset("masknet", **setting))
