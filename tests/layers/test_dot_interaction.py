from __future__ import annotations

import itertools

import pytest
import torch

from dlrm.layers.dot_interaction import DotInteraction


def pair_products(x: torch.Tensor) -> torch.Tensor:
    """Return the products by the definition: a double loop over i < j."""
    pairs = itertools.combinations(range(x.shape[1]), 2)
    return torch.stack([(x[:, i] * x[:, j]).sum(1) for i, j in pairs], dim=1)


def test_products_are_those_of_a_double_loop_in_upper_triangle_order():
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(DotInteraction(5)(x), pair_products(x))


def test_the_gradient_is_that_of_the_double_loop():
    x = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 10, dtype=torch.float64)
    (expected,) = torch.autograd.grad((pair_products(x) * weights).sum(), x)
    (gradient,) = torch.autograd.grad((DotInteraction(5)(x) * weights).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_the_gradient_passes_a_numerical_check():
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(DotInteraction(3), x)


def test_an_empty_batch_gives_no_products():
    assert DotInteraction(4)(torch.zeros(0, 4, 2)).shape == (0, 6)


def test_fewer_than_two_vectors_are_refused():
    with pytest.raises(ValueError, match="at least 2 vectors, but got 1"):
        DotInteraction(1)


def test_another_number_of_vectors_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\[B, 3, D\], but got \[2, 4, 5\]"):
        DotInteraction(3)(torch.zeros(2, 4, 5))


def test_the_layer_has_no_state():
    assert DotInteraction(3).state_dict() == {}
