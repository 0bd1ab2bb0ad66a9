from __future__ import annotations

import numpy as np
import pytest

from dlrm.config.errors import ConfigError
from dlrm.models import model_config
from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    flat_input,
    linear,
    mlp,
    numpy_state,
    preset,
)


@pytest.mark.parametrize("structure", ["stacked", "parallel"])
def test_logits_are_those_of_the_paper(structure):
    settings = {"structure": structure, "cross_layers": 2}
    model, batch, schema = built_on_mixed_widths("gdcn", **settings)
    state = numpy_state(model)
    c0 = flat_input(state, "inputs", batch, schema)
    c = c0
    for layer in range(2):
        gate = 1 / (1 + np.exp(-linear(state, f"head.cross.gates.{layer}", c)))
        c = c0 * linear(state, f"head.cross.maps.{layer}", c) * gate + c
    if structure == "stacked":
        last = mlp(state, "head.mlp", c, logit=False)
    else:
        last = np.concatenate([c, mlp(state, "head.mlp", c0, logit=False)], axis=1)
    assert_logits(model, batch, linear(state, "head.logit.layers.0", last))


def test_a_cross_network_without_layers_is_refused_by_its_key():
    with pytest.raises(
        ConfigError, match=r"model\.cross_layers must be >= 1, but .* 0"
    ):
        model_config(preset("gdcn", cross_layers=0))
