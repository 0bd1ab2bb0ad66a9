from __future__ import annotations

import dataclasses

import pytest

from dlrm.config.errors import ConfigError
from dlrm.config.table_options import Pretrained, TableOptions
from dlrm.models import build_model, model_config
from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    linear_terms,
    mixed_schema,
    numpy_state,
    preset,
    tables,
)


@pytest.mark.parametrize("num_dense", [0, 2])
def test_logits_are_a_weighted_sum_of_ids_and_numbers(num_dense):
    model, batch, schema = built_on_mixed_widths(
        "logistic_regression", num_dense=num_dense
    )
    expected = linear_terms(numpy_state(model), "linear", batch, schema)
    assert_logits(model, batch, expected)


def test_every_table_is_one_weight_wide():
    model, _, _ = built_on_mixed_widths("logistic_regression")
    assert {table.shape[1] for table in tables(model).values()} == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TableOptions(max_norm=1.5), r"tables\.s1\.max_norm .* it is 1\.5"),
        (
            TableOptions(pretrained=Pretrained(path="vectors.npy")),
            r"tables\.s1\.pretrained\.path .* it is vectors\.npy",
        ),
    ],
)
def test_options_of_vectors_are_refused_by_their_key(options, message):
    schema = dataclasses.replace(mixed_schema(), table_options={"s1": options})
    with pytest.raises(ConfigError, match=message):
        build_model(model_config(preset("logistic_regression")), schema)
