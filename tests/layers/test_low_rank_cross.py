from __future__ import annotations

import numpy as np
import torch

from dlrm.layers.low_rank_cross import LowRankCross


def test_two_layers_follow_the_formula_of_the_paper():
    layer = LowRankCross(5, num_layers=2, rank=3).double()
    x0 = torch.randn(4, 5, dtype=torch.float64)
    expected = x0.numpy()
    for down, up in zip(layer.down, layer.up, strict=True):
        v, u = down.weight.detach().numpy(), up.weight.detach().numpy()
        b = up.bias.detach().numpy()
        rows = [u @ (v @ row) + b for row in expected]
        expected = x0.numpy() * np.stack(rows) + expected
    np.testing.assert_allclose(layer(x0).detach().numpy(), expected, atol=1e-12)


def test_the_gradient_reaches_every_parameter():
    layer = LowRankCross(5, num_layers=3, rank=2)
    layer(torch.randn(4, 5)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_width_is_kept():
    layer = LowRankCross(7, num_layers=1, rank=2)
    assert layer.output_dim == layer(torch.zeros(2, 7)).shape[1] == 7
