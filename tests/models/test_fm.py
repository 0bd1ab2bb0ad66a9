from __future__ import annotations

import itertools

import pytest

from dlrm.config.errors import ConfigError
from dlrm.models import model_config
from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    field_vectors,
    linear_terms,
    numpy_state,
    preset,
)


@pytest.mark.parametrize("num_dense", [0, 2])
def test_logits_are_linear_terms_and_dot_products_of_all_pairs(num_dense):
    """Rendle 2010, equation 1, with the pairs as its double sum."""
    model, batch, schema = built_on_mixed_widths("fm", num_dense=num_dense)
    state = numpy_state(model)
    expected = linear_terms(state, "linear", batch, schema)
    vectors = field_vectors(state, "fields", batch, schema)
    for first, second in itertools.combinations(vectors, 2):
        expected += (first * second).sum(axis=1)
    assert_logits(model, batch, expected)


def test_a_share_of_dropped_values_of_one_is_refused_by_its_key():
    with pytest.raises(ConfigError, match=r"model\.embedding_dropout .* it is 1\.0"):
        model_config(preset("fm", embedding_dropout=1.0))
