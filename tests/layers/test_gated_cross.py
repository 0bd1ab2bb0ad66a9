from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.layers.gated_cross import GatedCross


def test_two_layers_follow_the_formula_of_the_paper():
    layer = GatedCross(5, num_layers=2).double()
    x0 = torch.randn(4, 5, dtype=torch.float64)
    rows = []
    for start in x0.numpy():
        x = start
        for linear, gate in zip(layer.maps, layer.gates, strict=True):
            w, b = linear.weight.detach().numpy(), linear.bias.detach().numpy()
            opened = 1 / (1 + np.exp(-(gate.weight.detach().numpy() @ x)))
            x = start * (w @ x + b) * opened + x
        rows.append(x)
    np.testing.assert_allclose(layer(x0).detach().numpy(), rows, atol=1e-12)


def test_the_gradient_reaches_every_parameter():
    layer = GatedCross(5, num_layers=3)
    layer(torch.randn(4, 5)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_gates_have_no_bias_and_the_width_is_kept():
    layer = GatedCross(7, num_layers=1)
    assert layer.gates[0].bias is None
    assert layer.output_dim == layer(torch.zeros(2, 7)).shape[1] == 7


def test_another_width_is_refused():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        GatedCross(5, num_layers=1)(torch.zeros(2, 4))
