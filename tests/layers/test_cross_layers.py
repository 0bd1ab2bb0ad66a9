from __future__ import annotations

import pytest
import torch

from dlrm.layers import dense_passes
from dlrm.layers.cross_layers import cross_layers

Layers = list[tuple[torch.Tensor, ...]]


def made(width: int, rank: int | None, count: int, dtype=torch.float64) -> Layers:
    """Return layers of one matrix, or of two thin ones of a rank."""
    torch.manual_seed(0)
    shapes = [(width, width)] if rank is None else [(rank, width), (width, rank)]
    return [
        tuple(
            torch.randn(shape, dtype=dtype).div_(3).requires_grad_()
            for shape in [*shapes, (width,)]
        )
        for _ in range(count)
    ]


def by_the_formula(x: torch.Tensor, layers: Layers) -> torch.Tensor:
    values = x
    for *matrices, bias in layers:
        product = values
        for matrix in matrices:
            product = product @ matrix.t()
        values = x * (product + bias) + values
    return values


def gradients(output: torch.Tensor, x: torch.Tensor, layers: Layers):
    parameters = [parameter for layer in layers for parameter in layer]
    return torch.autograd.grad(output.square().sum(), [x, *parameters])


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("count", [1, 3])
def test_values_and_gradients_are_those_of_the_formula(rank, count):
    layers = made(5, rank, count)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    result, expected = cross_layers(x, layers), by_the_formula(x, layers)
    torch.testing.assert_close(result, expected)
    for ours, theirs in zip(
        gradients(result, x, layers), gradients(expected, x, layers), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("rank", [None, 2])
def test_first_and_second_derivatives_pass_a_numerical_check(rank):
    layers = made(3, rank, 2)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    parameters = [parameter for layer in layers for parameter in layer]

    def output(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return cross_layers(x, layers)

    assert torch.autograd.gradcheck(output, [x, *parameters])
    assert torch.autograd.gradgradcheck(output, [x, *parameters])


@pytest.mark.parametrize("rank", [None, 5])
def test_float32_agrees_with_float64_to_rounding_with_and_without_kernels(
    rank, monkeypatch
):
    layers = made(37, rank, 2, dtype=torch.float32)
    wide = [tuple(p.detach().double().requires_grad_() for p in la) for la in layers]
    x = torch.randn(140, 37).requires_grad_()
    x64 = x.detach().double().requires_grad_()
    expected = gradients(by_the_formula(x64, wide), x64, wide)
    for native in (dense_passes.native, lambda: False):
        monkeypatch.setattr(dense_passes, "native", native)
        found = gradients(cross_layers(x, layers), x, layers)
        for ours, theirs in zip(found, expected, strict=True):
            scale = float(theirs.abs().max())
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-6 * scale)


def test_an_input_that_lies_in_columns_of_another_gives_the_same():
    layers = made(4, 2, 2, dtype=torch.float32)
    whole = torch.randn(6, 9)
    part = whole[:, 2:6]
    result = cross_layers(part, layers)
    assert torch.equal(result, cross_layers(part.clone(), layers))


def test_a_graph_can_be_gone_through_again_and_leaves_the_given_gradient():
    layers = made(4, 2, 2, dtype=torch.float32)
    x, given = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    kept, output = given.clone(), cross_layers(x, layers)
    first = torch.autograd.grad(output, x, given, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(output, x, given)[0], first)
    assert torch.equal(given, kept)


def test_no_layers_pass_the_input():
    x = torch.randn(2, 3)
    assert cross_layers(x, []) is x
