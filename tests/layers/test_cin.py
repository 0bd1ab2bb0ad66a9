from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from dlrm.layers.cin import CompressedInteraction


def cin(fields_BFD: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the pooled maps of all layers by the double sum of the paper's formula."""
    maps, pooled = fields_BFD, []
    num_fields = fields_BFD.shape[1]
    for weight in weights:
        made = np.zeros((len(maps), len(weight), maps.shape[2]))
        for h in range(len(weight)):
            for i in range(maps.shape[1]):
                for j in range(num_fields):
                    factor = weight[h, i * num_fields + j]
                    made[:, h] += factor * maps[:, i] * fields_BFD[:, j]
        pooled.append(made.sum(axis=2))
        maps = made
    return np.concatenate(pooled, axis=1)


@pytest.mark.parametrize("widths", [[4], [3, 2], [2, 5, 3]])
@pytest.mark.parametrize("num_fields", [1, 3])
def test_maps_are_weighted_sums_of_products(widths, num_fields):
    torch.manual_seed(0)
    layer = CompressedInteraction(num_fields, widths).double()
    x = torch.randn(5, num_fields, 4, dtype=torch.float64)
    expected = cin(x.numpy(), [w.detach().numpy() for w in layer.parameters()])
    assert layer.output_dim == sum(widths)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-12)


def test_gradients_reach_every_weight_and_the_fields():
    torch.manual_seed(0)
    layer = CompressedInteraction(3, [2, 2]).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *weights: torch.func.functional_call(
            layer,
            dict(zip(("layers.0.weight", "layers.1.weight"), weights, strict=True)),
            x,
        ),
        (x, *(weight.detach().requires_grad_() for weight in layer.parameters())),
    )


def test_a_batch_without_rows_has_no_maps():
    assert CompressedInteraction(3, [2, 4])(torch.zeros(0, 3, 4)).shape == (0, 6)
