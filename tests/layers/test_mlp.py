from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dlrm.layers.mlp import MLP, BatchNorm


def test_hidden_layers_end_in_relu_and_the_output_layer_does_not():
    mlp = MLP(3, [4], output_dim=2).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    first, last = mlp.layers[0], mlp.layers[2]
    hidden = np.maximum(
        x.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0
    )
    expected = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(mlp(x).detach().numpy(), expected, atol=1e-12)
    assert (expected < 0).any() or (expected > 0).any()


def test_without_an_output_layer_the_last_width_is_the_output():
    mlp = MLP(3, [4, 6])
    result = mlp(torch.randn(5, 3))
    assert mlp.output_dim == result.shape[1] == 6
    assert (result >= 0).all()


def test_the_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    mlp = MLP(3, [8, 8], output_dim=1, batch_norm=True)
    mlp(torch.randn(16, 3)).square().sum().backward()
    for name, parameter in mlp.named_parameters():
        assert parameter.grad is not None, name


def test_dropout_and_batch_norm_stand_in_the_stated_order():
    kinds = [type(layer) for layer in MLP(3, [4], dropout=0.5, batch_norm=True).layers]
    assert kinds == [nn.Linear, BatchNorm, nn.ReLU, nn.Dropout]


def test_no_widths_and_no_output_pass_the_input_unchanged():
    x = torch.randn(2, 3)
    assert MLP(3, [])(x) is x


def test_a_batch_of_one_row_is_normalised_by_the_running_statistics():
    norm = BatchNorm(3)
    norm(torch.randn(64, 3) * 2 + 1)
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    row = torch.randn(1, 3)
    expected = (row - mean) / torch.sqrt(variance + norm.eps)
    torch.testing.assert_close(norm(row), expected)
    torch.testing.assert_close(norm.running_mean, mean)


def test_initial_weights_have_the_variance_of_the_authors_code():
    torch.manual_seed(0)
    layer = MLP(300, [100]).layers[0]
    assert abs(layer.weight.std().item() - (2 / 400) ** 0.5) < 0.002
    assert abs(layer.bias.std().item() - (1 / 100) ** 0.5) < 0.03
