from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import nn

from dlrm.kernels.library import native
from dlrm.layers import dense_passes
from dlrm.layers import linear_chain as linear_chain_module
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
    for built in (dense_passes.native, lambda: False):
        monkeypatch.setattr(dense_passes, "native", built)
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


@pytest.fixture
def parts(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """Let so many threads take rows of their own."""
    if not native():
        pytest.skip("needs the native kernels")
    number = int(request.param)
    monkeypatch.setattr(linear_chain_module, "_num_parts", lambda x: number)
    threads = torch.get_num_threads()
    torch.set_num_threads(number)
    yield number
    torch.set_num_threads(threads)


@pytest.mark.parametrize("parts", [2, 3], indirect=True)
@pytest.mark.parametrize("num_rows", [1, 5, 128, 300, 1000])
@pytest.mark.parametrize("last_relu", [True, False])
def test_rows_shared_out_among_threads_give_the_same(
    parts: int, num_rows: int, last_relu: bool
):
    wide = layers(13, 64, 33, 1)
    narrow = [nn.Linear(w.in_features, w.out_features) for w in wide]
    for mine, theirs in zip(narrow, wide, strict=True):
        mine.load_state_dict(theirs.state_dict())
    x = torch.randn(num_rows, 13, requires_grad=True)
    x64 = x.detach().double().requires_grad_()
    output = linear_chain(x, narrow, last_relu=last_relu)
    expected = by_torch(x64, wide, last_relu)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    found = gradients(output, x, narrow)
    for ours, theirs in zip(found, gradients(expected, x64, wide), strict=True):
        scale = max(float(theirs.abs().max()), 1e-6)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=3e-6 * scale)
    again = gradients(linear_chain(x, narrow, last_relu=last_relu), x, narrow)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("parts", [2], indirect=True)
def test_what_needs_no_gradient_gets_none_from_threads_either(parts: int):
    linears = layers(4, 40, 3, dtype=torch.float32)
    x = torch.randn(300, 4)
    linear_chain(x, linears, last_relu=False).sum().backward()
    whole = [p.grad.clone() for linear in linears for p in linear.parameters()]
    assert x.grad is None
    for linear in linears:
        linear.zero_grad()
    linears[0].weight.requires_grad_(requires_grad=False)
    linear_chain(x, linears, last_relu=False).sum().backward()
    assert linears[0].weight.grad is None
    rest = [p.grad for linear in linears for p in linear.parameters()]
    for ours, theirs in zip(rest[1:], whole[1:], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("parts", [2], indirect=True)
def test_threads_leave_the_gradient_that_they_are_given_as_it_is(parts: int):
    linears = layers(4, 40, 3, dtype=torch.float32)
    x = torch.randn(300, 4, requires_grad=True)
    given = torch.randn(300, 3)
    kept = given.clone()
    linear_chain(x, linears, last_relu=True).backward(given)
    assert torch.equal(given, kept)


def test_threads_take_rows_of_their_own_where_each_has_enough(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(linear_chain_module, "takes_native", lambda x: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    count = linear_chain_module._num_parts
    assert count(torch.zeros(2048, 1)) == 4
    assert count(torch.zeros(2047, 1)) == 1
    monkeypatch.setattr(linear_chain_module, "takes_native", lambda x: False)
    assert count(torch.zeros(2048, 1)) == 1
