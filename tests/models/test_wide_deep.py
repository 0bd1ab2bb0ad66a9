from __future__ import annotations

import pytest

from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    flat_input,
    linear_terms,
    mlp,
    numpy_state,
)


@pytest.mark.parametrize("num_dense", [0, 2])
def test_logits_are_the_sum_of_a_wide_and_a_deep_part(num_dense):
    """Cheng et al. 2016, equation 3."""
    model, batch, schema = built_on_mixed_widths("wide_deep", num_dense=num_dense)
    state = numpy_state(model)
    wide = linear_terms(state, "wide", batch, schema)
    deep = mlp(state, "top_mlp", flat_input(state, "deep", batch, schema))
    assert_logits(model, batch, wide + deep[:, 0])
