from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from dlrm.layers import dense_passes
from dlrm.layers.linear_chain import linear_chain
from dlrm.layers.mlp import MLP


def layers(*widths: int, dtype: torch.dtype = torch.float64) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(i, o, dtype=dtype) for i, o in pairwise(widths)]


def by_torch(x: torch.Tensor, linears: list[nn.Linear], last_relu: bool):
    for place, linear in enumerate(linears):
        x = linear(x)
        if last_relu or place < len(linears) - 1:
            x = torch.relu(x)
    return x


def gradients(output: torch.Tensor, x: torch.Tensor, linears: list[nn.Linear]):
    parameters = [p for linear in linears for p in linear.parameters()]
    return torch.autograd.grad(output.square().sum(), [x, *parameters])


@pytest.mark.parametrize("last_relu", [True, False])
@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (3, 40, 33, 1)])
def test_values_and_gradients_are_those_of_torchs_layers(widths, last_relu):
    linears = layers(*widths)
    x = torch.randn(6, widths[0], dtype=torch.float64, requires_grad=True)
    result = linear_chain(x, linears, last_relu=last_relu)
    expected = by_torch(x, linears, last_relu)
    torch.testing.assert_close(result, expected)
    for ours, theirs in zip(
        gradients(result, x, linears), gradients(expected, x, linears), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_first_and_second_derivatives_pass_a_numerical_check():
    linears = layers(3, 4, 2)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    parameters = [p for linear in linears for p in linear.parameters()]

    def output(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return linear_chain(x, linears, last_relu=False)

    assert torch.autograd.gradcheck(output, [x, *parameters])
    assert torch.autograd.gradgradcheck(output, [x, *parameters])


def test_float32_agrees_with_float64_to_rounding_with_and_without_kernels(monkeypatch):
    wide = layers(13, 64, 33, 1)
    narrow = [nn.Linear(w.in_features, w.out_features) for w in wide]
    for mine, theirs in zip(narrow, wide, strict=True):
        mine.load_state_dict(theirs.state_dict())
    x = torch.randn(300, 13, requires_grad=True)
    x64 = x.detach().double().requires_grad_()
    expected = gradients(by_torch(x64, wide, False), x64, wide)
    for native in (dense_passes.native, lambda: False):
        monkeypatch.setattr(dense_passes, "native", native)
        found = gradients(linear_chain(x, narrow, last_relu=False), x, narrow)
        for ours, theirs in zip(found, expected, strict=True):
            scale = float(theirs.abs().max())
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-6 * scale)


def test_a_graph_can_be_gone_through_again_and_gives_the_same():
    linears = layers(4, 8, 2, dtype=torch.float32)
    x = torch.randn(6, 4, requires_grad=True)
    output = linear_chain(x, linears, last_relu=True).sum()
    first = torch.autograd.grad(output, x, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(output, x)[0], first)


def test_two_forward_passes_keep_their_own_values():
    mlp = MLP(4, [8, 8], output_dim=1)
    x, y = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    alone = torch.autograd.grad(mlp(x).sum(), x)[0]
    of_x, of_y = mlp(x), mlp(y)
    with torch.no_grad():
        mlp(torch.randn(6, 4))
    both = torch.autograd.grad(of_x.sum() + of_y.sum(), [x, y])
    assert torch.equal(both[0], alone)
    assert torch.equal(both[1], torch.autograd.grad(mlp(y).sum(), y)[0])


def test_a_gradient_that_others_read_is_left_as_it_is():
    linears = layers(3, 4, dtype=torch.float32)
    output = linear_chain(torch.randn(5, 3), linears, last_relu=True)
    given = torch.randn(5, 4)
    kept = given.clone()
    output.backward(given)
    assert torch.equal(given, kept)


def test_what_needs_no_gradient_gets_none():
    linears = layers(3, 4, 2, dtype=torch.float32)
    linears[0].requires_grad_(False)
    x = torch.randn(5, 3)
    linear_chain(x, linears, last_relu=False).sum().backward()
    assert linears[0].weight.grad is None
    assert linears[0].bias.grad is None
    assert linears[1].weight.grad is not None
    assert x.grad is None


def test_gradients_add_up_over_backward_passes():
    linears = layers(3, 4, dtype=torch.float32)
    x = torch.randn(5, 3)
    linear_chain(x, linears, last_relu=True).sum().backward()
    once = linears[0].weight.grad.clone()
    linear_chain(x, linears, last_relu=True).sum().backward()
    torch.testing.assert_close(linears[0].weight.grad, 2 * once)


def test_an_input_changed_in_place_before_the_backward_pass_is_refused():
    linears = layers(3, 4, dtype=torch.float32)
    x = torch.randn(5, 3)
    output = linear_chain(x, linears, last_relu=True)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
