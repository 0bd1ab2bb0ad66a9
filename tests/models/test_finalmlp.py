from __future__ import annotations

import numpy as np
import pytest

from dlrm.config.errors import ConfigError
from dlrm.models import build_model, model_config
from tests.models.harness import (
    assert_logits,
    built_on_mixed_widths,
    field_vectors,
    mixed_schema,
    mlp,
    numpy_state,
    preset,
)


def streams(second: str | None = None) -> dict[str, object]:
    """Return settings of narrow streams, the second gate reading ``second``."""
    return {
        "top_mlp": [6, 4],
        "second_mlp": [8],
        "gate_mlp": [3],
        "second_gate_features": [second] if second else [],
    }


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("gates", [True, False])
def test_logits_are_those_of_the_paper(gates, num_heads):
    model, batch, schema = built_on_mixed_widths(
        "finalmlp",
        feature_gates=gates,
        fusion_heads=num_heads,
        **streams("s1" if gates else None),
    )
    state = numpy_state(model)
    vectors = field_vectors(state, "fields", batch, schema)
    x = np.concatenate(vectors, axis=1)
    inputs = [x, x]
    if gates:
        # The fields are two dense columns, then s0, s1 and s2.
        for stream, context in enumerate([state["gates.0.context"], vectors[3]]):
            scores = mlp(state, f"gates.{stream}.mlp", context)
            inputs[stream] = x * 2 / (1 + np.exp(-scores))
    first = mlp(state, "streams.0", inputs[0], logit=False)
    second = mlp(state, "streams.1", inputs[1], logit=False)
    expected = state["fusion.x_weight.bias"] + first @ state["fusion.x_weight.weight"].T
    expected = expected + second @ state["fusion.y_weight.weight"].T
    for row in range(len(batch)):
        slices = zip(
            np.split(first[row], num_heads),
            np.split(second[row], num_heads),
            state["fusion.heads"],
            strict=True,
        )
        expected[row] += sum(a @ weight @ b for a, b, weight in slices)
    assert_logits(model, batch, expected)


def test_a_gate_reads_the_features_that_are_named_alone():
    model, _, _ = built_on_mixed_widths("finalmlp", **streams("s2"))
    first, second = model.gates
    assert first.context is not None
    assert second.context is None


def test_a_gate_over_an_unknown_feature_is_refused_by_its_key():
    config = model_config(preset("finalmlp", **streams("s9")))
    message = r"model\.second_gate_features must name .* but s9 is none of s0, s1, s2"
    with pytest.raises(ConfigError, match=message):
        build_model(config, mixed_schema())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"second_mlp": []}, r"model.second_mlp must be .* but it is \[\]"),
        ({"fusion_heads": 0}, "model.fusion_heads must be >= 1, but it is 0"),
        ({"fusion_heads": 3}, "model.top_mlp .* multiple of model.fusion_heads=3"),
        ({"gate_mlp": [0]}, "model.gate_mlp"),
        (
            {"feature_gates": False, "first_gate_features": ["s0"]},
            "model.first_gate_features .* without model.feature_gates",
        ),
    ],
)
def test_values_out_of_range_are_refused_by_their_key(setting, message):
    with pytest.raises(ConfigError, match=message):
        model_config(preset("finalmlp", **setting))
