from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    field_vectors,
    linear_terms,
    mlp,
    numpy_state,
)


@pytest.mark.parametrize("num_dense", [0, 2])
def test_logits_are_the_sum_of_fm_and_a_deep_part_on_the_same_vectors(num_dense):
    """Guo et al. 2017, equations 1 to 4."""
    model, batch, schema = built_on_mixed_widths("deepfm", num_dense=num_dense)
    state = numpy_state(model)
    expected = linear_terms(state, "linear", batch, schema)
    vectors = field_vectors(state, "fields", batch, schema)
    for first, second in itertools.combinations(vectors, 2):
        expected += (first * second).sum(axis=1)
    deep = mlp(state, "top_mlp", np.concatenate(vectors, axis=1))
    assert_logits(model, batch, expected + deep[:, 0])
