"""Pooled rows: the cases that kernels are known to get wrong, one by one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dlrm.config.errors import DataError
from dlrm.config.features import Pooling
from dlrm.embeddings.pooling import attention_factors, pool_rows, scale_sums
from dlrm.embeddings.segment_max import segment_max


def starts(*lengths: int) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def weights_of(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def both_max(
    weight: torch.Tensor, ids: list[int], *lengths: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return our maxima and torch's, and their gradients to the table."""
    ours = weight.clone().requires_grad_()
    theirs = nn.EmbeddingBag(
        *weight.shape, mode="max", include_last_offset=True, _weight=weight.clone()
    )
    maxima = segment_max(ours[ids], starts(*lengths))
    expected = theirs(torch.tensor(ids, dtype=torch.int64), starts(*lengths))
    # Both signs: a kernel may treat ties by the sign of the gradient.
    factors = torch.arange(maxima.numel(), dtype=weight.dtype).view_as(maxima) - 1.5
    (maxima * factors).sum().backward()
    (expected * factors).sum().backward()
    return maxima, expected, ours.grad, theirs.weight.grad


@pytest.mark.parametrize(
    ("ids", "lengths"),
    [
        pytest.param([1, 1, 1, 0], (3, 1), id="one row several times"),
        pytest.param([2, 3, 3, 2], (2, 2), id="equal rows of two ids"),
        pytest.param([4, 4, 5], (2, 1), id="all values below zero"),
        pytest.param([0, 5], (0, 2, 0), id="empty bags"),
        pytest.param([], (0, 0), id="nothing but empty bags"),
    ],
)
def test_the_maximum_and_its_gradient_are_torchs(ids, lengths):
    weight = torch.tensor(
        [[1.0, -2.0], [0.5, 3.0], [2.0, 2.0], [2.0, 2.0], [-1.0, -3.0], [-2.0, -0.5]]
    )
    maxima, expected, gradient, expected_gradient = both_max(weight, ids, *lengths)
    assert torch.equal(maxima, expected)
    assert torch.equal(gradient, expected_gradient)
    assert torch.isfinite(maxima).all()


def test_the_first_of_equal_rows_takes_the_whole_gradient():
    rows = torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    segment_max(rows, starts(3)).sum().backward()
    assert rows.grad.tolist() == [[0.0], [1.0], [0.0]]


def test_a_weighted_maximum_is_that_of_the_weighted_rows():
    rows = torch.tensor([[1.0, -1.0], [3.0, -3.0]], dtype=torch.float64)
    weights = weights_of(-2.0, 1.0)
    vector = pool_rows(rows, offsets=starts(2), weights_N=weights, pooling=Pooling.max)
    assert vector.tolist() == [[3.0, 2.0]]
    vector.sum().backward()
    # Row 1 wins the first column, row 0 the second one.
    assert weights.grad.tolist() == [-1.0, 3.0]


@pytest.mark.parametrize("pooling", [Pooling.mean, Pooling.sqrtn])
def test_bags_whose_divisor_is_zero_become_zeros_with_finite_gradients(pooling):
    rows = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64, requires_grad=True)
    weights = weights_of(0.0, 0.0, 2.0)
    vectors = pool_rows(
        rows, offsets=starts(2, 0, 1), weights_N=weights, pooling=pooling
    )
    assert vectors.tolist() == [[0.0], [0.0], [5.0]]
    vectors.sum().backward()
    assert rows.grad.tolist() == [[0.0], [0.0], [1.0]]
    assert torch.isfinite(weights.grad).all()


def test_weights_that_cancel_have_no_mean():
    sums = torch.tensor([[-2.0]])
    weights = torch.tensor([1.0, -1.0])
    vector = scale_sums(
        sums, offsets=starts(2), weights_N=weights, pooling=Pooling.mean
    )
    assert vector.tolist() == [[0.0]]


def test_attention_without_a_query_of_its_own_is_the_weighted_mean():
    rows = torch.tensor([[1.0, 0.0], [4.0, 3.0]], dtype=torch.float64)
    options = {"offsets": starts(2), "weights_N": weights_of(1.0, 2.0)}
    query = torch.zeros(2, dtype=torch.float64)
    attended = pool_rows(rows, **options, pooling=Pooling.attention, query_D=query)
    torch.testing.assert_close(
        attended, pool_rows(rows, **options, pooling=Pooling.mean)
    )


def test_attention_does_not_overflow():
    scores = torch.tensor([1e4, -1e4, 1e4], dtype=torch.float64)
    factors = attention_factors(scores, starts(3), None)
    assert factors.tolist() == [0.5, 0.0, 0.5]


def test_a_weight_of_zero_keeps_even_the_highest_score_out_but_has_a_gradient():
    scores = torch.tensor([5.0, 1.0], dtype=torch.float64)
    weights = weights_of(0.0, 1.0)
    factors = attention_factors(scores, starts(2), weights)
    assert factors.tolist() == [0.0, 1.0]
    factors[0].backward()
    # d/dw of w e^5 / (w e^5 + e^1) at w = 0 is e^4.
    torch.testing.assert_close(weights.grad[0], torch.tensor(4.0).double().exp())


def test_attention_of_weights_that_are_all_zero_is_zeros():
    scores = torch.tensor([900.0, 1.0], requires_grad=True)
    factors = attention_factors(scores, starts(2, 0), torch.zeros(2))
    assert factors.tolist() == [0.0, 0.0]
    factors.sum().backward()
    assert scores.grad.tolist() == [0.0, 0.0]


def test_attention_refuses_negative_weights_and_names_the_row():
    weights = torch.tensor([1.0, 2.0, -0.5])
    with pytest.raises(DataError, match=r"0 or more .* row 2 .* has -0\.5"):
        attention_factors(torch.zeros(3), starts(1, 0, 2), weights)
