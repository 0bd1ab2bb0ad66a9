from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.layers.half_cross import HalfCross, SecondHalf


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def crossed(layer: HalfCross, x0: np.ndarray) -> np.ndarray:
    """Return the crossed vector of one row and head, without batch norm."""
    x = x0
    parts = zip(layer.maps, layer.halves, layer.biases, strict=True)
    for linear, half, bias in parts:
        c = array(linear.weight) @ x
        if hasattr(half, "mask_norm"):
            norm = half.mask_norm
            standard = (c - c.mean()) / np.sqrt(c.var() + norm.eps)
            mask = np.maximum(array(norm.weight) * standard + array(norm.bias), 0)
            second = c * mask
        else:
            second = array(half.scale) * c + array(half.shift)
        anchor = x if layer.exponential else x0
        x = anchor * (np.concatenate([c, second]) + array(bias)) + x
    return x


@pytest.mark.parametrize("second", SecondHalf)
@pytest.mark.parametrize("exponential", [False, True])
def test_layers_follow_the_formula_of_the_paper(second, exponential):
    torch.manual_seed(0)
    layer = HalfCross(
        6, num_layers=3, exponential=exponential, second=second, num_heads=2
    ).double()
    for parameter in layer.halves.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(4, 2, 6, dtype=torch.float64)
    expected = [[crossed(layer, head) for head in row] for row in x.numpy()]
    np.testing.assert_allclose(array(layer(x)), expected, rtol=1e-9)


def test_the_exponential_network_doubles_the_order_and_the_linear_one_adds_one():
    # The output is a polynomial in the input whose highest power outweighs the others
    # at large values: twice the input gives 2 ** degree times the output.
    for exponential, degree in ((False, 4), (True, 8)):
        layer = HalfCross(
            2, num_layers=3, exponential=exponential, second=SecondHalf.affine
        ).double()
        for linear in layer.maps:
            torch.nn.init.ones_(linear.weight)
        x = torch.full((1, 1, 2), 1e8, dtype=torch.float64)
        ratio = layer(2 * x) / layer(x)
        torch.testing.assert_close(ratio, torch.full_like(x, 2.0**degree))


@pytest.mark.parametrize("second", SecondHalf)
def test_batch_norm_has_one_mean_and_variance_a_head(second):
    layer = HalfCross(
        4, num_layers=1, exponential=True, second=second, num_heads=2, batch_norm=True
    )
    assert layer.halves[0].norm.weight.shape == (2,)
    assert layer(torch.randn(3, 2, 4)).shape == (3, 2, 4)
    factor = layer.halves[0].norm(torch.randn(64, 2, 2) * 3 + 1)
    torch.testing.assert_close(
        factor.mean(dim=(0, 2)), torch.zeros(2), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("second", SecondHalf)
def test_the_gradient_reaches_every_parameter(second):
    torch.manual_seed(0)
    layer = HalfCross(
        6, num_layers=2, exponential=False, second=second, batch_norm=True, dropout=0.1
    )
    layer(torch.randn(8, 1, 6)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="even input width, but got 5"):
        HalfCross(5, num_layers=1, exponential=True)
