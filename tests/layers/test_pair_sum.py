from __future__ import annotations

import itertools

import pytest
import torch

from dlrm.layers.pair_sum import pair_sum


@pytest.mark.parametrize("num_vectors", [1, 2, 5])
def test_it_is_the_sum_over_all_pairs_and_so_is_its_gradient(num_vectors):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, num_vectors, 4, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    expected = x.new_zeros(3, 1)
    for i, j in itertools.combinations(range(num_vectors), 2):
        expected = expected + (x[:, i] * x[:, j]).sum(dim=1, keepdim=True)
    torch.testing.assert_close(pair_sum(x), expected)
    (found,) = torch.autograd.grad(pair_sum(x).sum(), x)
    # Vector i is multiplied by the sum of all others.
    torch.testing.assert_close(found, x.sum(dim=1, keepdim=True) - x)
