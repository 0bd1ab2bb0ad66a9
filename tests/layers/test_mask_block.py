from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.layers.mask_block import MaskBlock


def test_a_block_follows_the_formulas_of_the_paper():
    block = MaskBlock(5, 3, 4, reduction=2).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    state = {k: v.numpy() for k, v in block.state_dict().items()}
    embeddings, hidden = np.random.default_rng(0).normal(size=(2, 6, 5))
    hidden = hidden[:, :3]
    rows = []
    for e, h in zip(embeddings, hidden, strict=True):
        inner = np.maximum(state["mask_in.weight"] @ e + state["mask_in.bias"], 0)
        mask = state["mask_out.weight"] @ inner + state["mask_out.bias"]
        out = state["linear.weight"] @ (mask * h)
        out = (out - out.mean()) / np.sqrt(out.var() + block.norm.eps)
        rows.append(np.maximum(state["norm.weight"] * out + state["norm.bias"], 0))
    found = block(torch.from_numpy(embeddings), torch.from_numpy(hidden))
    np.testing.assert_allclose(found.detach().numpy(), rows, atol=1e-12)


def test_the_inner_layer_is_a_multiple_of_the_masked_vector_and_at_least_one():
    assert MaskBlock(5, 8, 4, reduction=0.5).mask_in.out_features == 4
    assert MaskBlock(5, 8, 4, reduction=0.01).mask_in.out_features == 1


def test_the_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    block = MaskBlock(5, 3, 4, reduction=2)
    block(torch.randn(8, 5), torch.randn(8, 3)).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_hidden_vector_of_another_width_is_refused():
    block = MaskBlock(5, 3, 4, reduction=1)
    with pytest.raises(RuntimeError, match=r"tensor a \(3\) .* tensor b \(2\)"):
        block(torch.zeros(2, 5), torch.zeros(2, 2))
