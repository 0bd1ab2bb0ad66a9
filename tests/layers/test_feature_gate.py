from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.layers.feature_gate import FeatureGate


def gated(gate: FeatureGate, x: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Return 2 sigmoid(MLP(context)) x of one row."""
    first, last = gate.mlp.layers[0], gate.mlp.layers[2]
    hidden = first.weight.detach().numpy() @ context + first.bias.detach().numpy()
    scores = last.weight.detach().numpy() @ np.maximum(hidden, 0)
    return x * 2 / (1 + np.exp(-(scores + last.bias.detach().numpy())))


def test_a_context_weighs_each_column_between_zero_and_two():
    gate = FeatureGate(4, [3], context_dim=2, free_dim=5).double()
    x, context = np.random.default_rng(0).normal(size=(2, 6, 4))
    context = context[:, :2]
    expected = [gated(gate, *pair) for pair in zip(x, context, strict=True)]
    found = gate(torch.from_numpy(x), torch.from_numpy(context)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_without_a_context_a_learned_one_serves_all_rows():
    gate = FeatureGate(4, [3], context_dim=0, free_dim=5).double()
    assert gate.context is not None
    torch.nn.init.normal_(gate.context)
    x = np.random.default_rng(0).normal(size=(6, 4))
    context = gate.context.detach().numpy()[0]
    expected = [gated(gate, row, context) for row in x]
    found = gate(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    gate = FeatureGate(4, [8], context_dim=0, free_dim=5)
    assert gate.context is not None
    torch.nn.init.normal_(gate.context)
    gate(torch.randn(6, 4)).square().sum().backward()
    for name, parameter in gate.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_context_too_many_or_too_few_is_refused():
    x, context = torch.zeros(2, 4), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"takes no context, but got \[2, 3\]"):
        FeatureGate(4, [], context_dim=0, free_dim=5)(x, context)
    with pytest.raises(ValueError, match="takes a context, but got none"):
        FeatureGate(4, [], context_dim=3, free_dim=5)(x)
