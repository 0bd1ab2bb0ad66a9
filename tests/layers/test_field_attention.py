from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.layers.field_attention import FieldAttention


def attend(x_BFD: np.ndarray, weight: np.ndarray, *, num_heads: int) -> np.ndarray:
    """Apply the interacting layer, row by row, head by head and field by field."""
    w_query, w_key, w_value, w_residual = np.split(weight, 4)
    found = np.zeros((*x_BFD.shape[:2], len(w_residual)))
    for row, fields in enumerate(x_BFD):
        for m, vector in enumerate(fields):
            heads = []
            for q, k, v in zip(
                np.split(w_query, num_heads),
                np.split(w_key, num_heads),
                np.split(w_value, num_heads),
                strict=True,
            ):
                scores = [np.exp((q @ vector) @ (k @ other)) for other in fields]
                shares = np.array(scores) / np.sum(scores)
                heads.append(
                    sum(s * (v @ o) for s, o in zip(shares, fields, strict=True))
                )
            found[row, m] = np.maximum(np.concatenate(heads) + w_residual @ vector, 0)
    return found


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("num_fields", [1, 4])
def test_fields_mix_by_the_papers_formula(num_heads, num_fields):
    torch.manual_seed(0)
    layer = FieldAttention(5, num_heads=num_heads, head_dim=3).double()
    x = torch.randn(6, num_fields, 5, dtype=torch.float64)
    (weight,) = (parameter.detach().numpy() for parameter in layer.parameters())
    expected = attend(x.numpy(), weight, num_heads=num_heads)
    found = layer(x).detach().numpy()
    assert found.shape == (6, num_fields, layer.output_dim)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_gradients_reach_every_weight():
    torch.manual_seed(0)
    layer = FieldAttention(5, num_heads=2, head_dim=3)
    layer(torch.randn(6, 4, 5)).sum().backward()
    for part in layer.query_key_value_residual.weight.grad.chunk(4):
        assert part.any(dim=1).all()


def test_a_batch_without_rows_stays_one():
    layer = FieldAttention(5, num_heads=2, head_dim=3)
    assert layer(torch.zeros(0, 4, 5)).shape == (0, 4, 6)
