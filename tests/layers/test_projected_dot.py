from __future__ import annotations

import itertools

import pytest
import torch
from torchrec.models.dlrm import InteractionProjectionArch

from dlrm.layers.projected_dot import ProjectedDot


def test_products_are_those_of_the_mixed_vectors():
    layer = ProjectedDot(6, embedding_dim=2, num_projected=3, widths=[5]).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    left, right = layer.left(x), layer.right(x)
    for row in range(4):
        pairs = itertools.product(range(3), range(3))
        for found, (i, j) in zip(layer(x)[row], pairs, strict=True):
            # Vector i of the left is a slice; vector j of the right is every third.
            product = left[row, 2 * i : 2 * i + 2] @ right[row, j::3]
            torch.testing.assert_close(found, product)


def test_the_interactions_are_those_of_torchrec():
    layer = ProjectedDot(12, embedding_dim=4, num_projected=2, widths=[5])
    reference = InteractionProjectionArch(
        num_sparse_features=2,
        interaction_branch1=layer.left,
        interaction_branch2=layer.right,
    )
    dense, sparse = torch.randn(3, 4), torch.randn(3, 2, 4)
    joined = torch.cat([dense, sparse.flatten(1)], dim=1)
    expected = reference(dense, sparse)[:, 4:]
    torch.testing.assert_close(layer(joined), expected)


def test_the_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    layer = ProjectedDot(6, embedding_dim=2, num_projected=3, widths=[8])
    layer(torch.randn(16, 6)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_no_projected_vector_is_refused():
    with pytest.raises(ValueError, match="at least 1 projected vector, but got 0"):
        ProjectedDot(6, embedding_dim=2, num_projected=0)
