from __future__ import annotations

import pytest

from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    flat_input,
    mlp,
    numpy_state,
)


@pytest.mark.parametrize("num_dense", [0, 2])
def test_logits_are_an_mlp_of_all_inputs_side_by_side(num_dense):
    model, batch, schema = built_on_mixed_widths("dnn", num_dense=num_dense)
    state = numpy_state(model)
    inputs = flat_input(state, "inputs", batch, schema)
    assert inputs.shape == (9, num_dense + 4 + 8 + 3)
    assert_logits(model, batch, mlp(state, "top_mlp", inputs))
