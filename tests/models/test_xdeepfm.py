from __future__ import annotations

import numpy as np
import pytest

from dlrm.config.errors import ConfigError
from dlrm.models import model_config
from tests.layers.test_cin import cin
from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    field_vectors,
    linear,
    linear_terms,
    mlp,
    numpy_state,
    preset,
)


@pytest.mark.parametrize("num_dense", [0, 2])
@pytest.mark.parametrize("widths", [[3], [3, 2, 4]])
def test_logits_are_the_sum_of_linear_terms_cin_and_a_deep_part(num_dense, widths):
    """Lian et al. 2018, equation 9."""
    model, batch, schema = built_on_mixed_widths(
        "xdeepfm", num_dense=num_dense, cin_widths=widths
    )
    state = numpy_state(model)
    vectors = field_vectors(state, "fields", batch, schema)
    weights = [state[f"cin.layers.{number}.weight"] for number in range(len(widths))]
    explicit = linear(state, "cin_logit", cin(np.stack(vectors, axis=1), weights))
    deep = mlp(state, "top_mlp", np.concatenate(vectors, axis=1))
    wide = linear_terms(state, "linear", batch, schema)
    assert_logits(model, batch, wide + explicit[:, 0] + deep[:, 0])


@pytest.mark.parametrize("widths", [[], [0]])
def test_a_cin_without_maps_is_refused_by_its_key(widths):
    with pytest.raises(ConfigError, match=r"model\.cin_widths must be .* it is \["):
        model_config(preset("xdeepfm", cin_widths=widths))
