from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch

from dlrm.kernels.library import native
from dlrm.layers import dense_passes
from dlrm.layers.joined_dot import JoinedDot

SHAPES = [(5, 27, 16), (3, 2, 5), (4, 40, 64), (2, 3, 33), (37, 17, 20)]


@pytest.fixture(params=["native", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(dense_passes, "native", lambda: False)
    elif not native():
        pytest.skip("needs the native kernels")


def by_definition(x: torch.Tensor, num_kept: int, padding: int) -> torch.Tensor:
    """Return the matrix by a double loop over pairs, of [B, F, D]."""
    pairs = itertools.combinations(range(x.shape[1]), 2)
    products = torch.stack([(x[:, i] * x[:, j]).sum(1) for i, j in pairs], dim=1)
    kept, zeros = x[:, :num_kept].flatten(1), x.new_zeros(len(x), padding)
    return torch.cat([kept, products, zeros], dim=1)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kept", ["none", "first", "all"])
@pytest.mark.parametrize("has_first", [True, False])
def test_values_and_gradients_are_those_of_a_double_loop(shape, kept, has_first):
    torch.manual_seed(0)
    _, count, width = shape
    num_kept = {"none": 0, "first": 1, "all": count}[kept]
    x = torch.randn(shape).requires_grad_()
    layer = JoinedDot(count, num_kept=num_kept, padding=3)
    flat = x.flatten(1)
    result = layer(flat[:, width:], flat[:, :width]) if has_first else layer(flat)
    wide = x.detach().double().requires_grad_()
    expected = by_definition(wide, num_kept, 3)
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=2e-5)
    weights = torch.randn_like(result)
    (ours,) = torch.autograd.grad((result * weights).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), wide)
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=2e-5)


def test_the_gradient_passes_a_numerical_check():
    layer = JoinedDot(3, num_kept=1, padding=2)
    others = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    first = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (others, first))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", ["sliced", "turned", "expanded"])
def test_inputs_and_gradients_may_lie_in_memory_as_they_like(kind):
    layer = JoinedDot(4, num_kept=1, padding=1)
    others = {
        "sliced": torch.randn(6, 20)[:, 3:18],
        "turned": torch.randn(15, 6).t(),
        "expanded": torch.randn(6, 1).expand(6, 15),
    }[kind].requires_grad_()
    first = torch.randn(6, 5)
    result = layer(others, first)
    plain = layer(others.contiguous(), first)
    assert torch.equal(result, plain)
    for grad in (torch.ones(1).expand(6, 12), torch.randn(12, 6).t()):
        (ours,) = torch.autograd.grad(result, others, grad, retain_graph=True)
        (theirs,) = torch.autograd.grad(
            plain, others, grad.contiguous(), retain_graph=True
        )
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("path")
def test_two_forward_passes_and_a_second_backward_pass_keep_their_values():
    layer = JoinedDot(4, num_kept=0, padding=0)
    x, y = (torch.randn(6, 12, requires_grad=True) for _ in range(2))
    (alone,) = torch.autograd.grad(layer(x).square().sum(), x)
    of_x, of_y = layer(x).square().sum(), layer(y).square().sum()
    for _ in range(2):
        of_both = torch.autograd.grad(of_x + of_y, [x, y], retain_graph=True)
        assert torch.equal(of_both[0], alone)


@pytest.mark.usefixtures("path")
def test_an_empty_batch_gives_no_rows():
    layer = JoinedDot(4, num_kept=1, padding=5)
    others = torch.zeros(0, 6, requires_grad=True)
    result = layer(others, torch.zeros(0, 2))
    assert result.shape == (0, 2 + 6 + 5)
    result.sum().backward()
    assert others.grad.shape == (0, 6)


@pytest.mark.skipif(not native(), reason="needs the native kernels")
def test_results_are_the_same_to_the_bit_for_any_number_of_threads():
    layer = JoinedDot(9, num_kept=1, padding=0)
    others = torch.randn(500, 80, requires_grad=True)
    first = torch.randn(500, 10)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            result = layer(others, first)
            (grad,) = torch.autograd.grad(result.square().sum(), others)
            found.append((result.detach(), grad))
    finally:
        torch.set_num_threads(before)
    for result, grad in found[1:]:
        assert torch.equal(result, found[0][0])
        assert torch.equal(grad, found[0][1])


THREADS = """
import threading
import torch
from dlrm.layers.joined_dot import JoinedDot

torch.set_num_threads(2)
torch.get_num_threads()
other = threading.Thread(target=torch.set_num_threads, args=(1,))
other.start()
other.join()
JoinedDot(3, num_kept=0, padding=0)(torch.ones(500, 6))
print(torch.get_num_threads())
"""


@pytest.mark.slow
def test_a_loader_thread_of_one_leaves_the_training_thread_its_number():
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "2"
