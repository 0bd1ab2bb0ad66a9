from __future__ import annotations

import numpy as np
import pytest

from dlrm.config.errors import ConfigError
from dlrm.models import model_config
from tests.models.harness import (
    State,
    assert_logits,
    built_on_mixed_widths,
    flat_input,
    linear,
    mlp,
    numpy_state,
    preset,
)

SMALL = {"cross_layers": 2, "cross_rank": 3, "cross_experts": 2}


def deep_logit(state: State, x: np.ndarray, crossed: np.ndarray, structure: str):
    """Return the logit of input and crossed input, as figure 1 combines them."""
    if structure == "stacked":
        last = mlp(state, "head.mlp", crossed, logit=False)
    else:
        last = mlp(state, "head.mlp", x, logit=False)
        last = np.concatenate([crossed, last], axis=1)
    return linear(state, "head.logit.layers.0", last)


def full_rank(state: State, layer: int, x0: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x0 * linear(state, f"head.cross.maps.{layer}", x) + x


def low_rank(state: State, layer: int, x0: np.ndarray, x: np.ndarray) -> np.ndarray:
    inner = linear(state, f"head.cross.down.{layer}", x)
    return x0 * linear(state, f"head.cross.up.{layer}", inner) + x


def mixture(state: State, layer: int, x0: np.ndarray, x: np.ndarray) -> np.ndarray:
    name, rank = f"head.cross.layers.{layer}", SMALL["cross_rank"]
    gates = np.exp(linear(state, f"{name}.gate", x))
    gates /= gates.sum(axis=1, keepdims=True)
    total = x.copy()
    for i in range(SMALL["cross_experts"]):
        own = slice(i * rank, (i + 1) * rank)
        v, u = state[f"{name}.down.weight"][own], state[f"{name}.up.weight"][:, own]
        inner = np.tanh(np.tanh(x @ v.T) @ state[f"{name}.inner"][i].T)
        expert = x0 * (inner @ u.T + state[f"{name}.up.bias"])
        total += gates[:, [i]] * expert
    return total


CROSSES = {"full_rank": full_rank, "low_rank": low_rank, "mixture": mixture}


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
@pytest.mark.parametrize("cross", sorted(CROSSES))
def test_logits_are_those_of_the_paper(cross, structure):
    settings = {"cross": cross, "structure": structure, **SMALL}
    model, batch, schema = built_on_mixed_widths("dcnv2", **settings)
    state = numpy_state(model)
    x0 = flat_input(state, "inputs", batch, schema)
    x = x0
    for layer in range(SMALL["cross_layers"]):
        x = CROSSES[cross](state, layer, x0, x)
    assert_logits(model, batch, deep_logit(state, x0, x, structure))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"cross_layers": 0}, "model.cross_layers must be >= 1, but it is 0"),
        ({"cross_rank": 0}, "model.cross_rank must be >= 1, but it is 0"),
        ({"cross_experts": -1}, "model.cross_experts must be >= 1, but it is -1"),
        ({"structure": "serial"}, "serial"),
        ({"cross": "low"}, "low"),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(setting, message):
    with pytest.raises(ConfigError, match=message):
        model_config(preset("dcnv2", **setting))
