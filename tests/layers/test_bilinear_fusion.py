from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.layers.bilinear_fusion import BilinearFusion


@pytest.mark.parametrize("num_heads", [1, 2])
def test_the_logit_is_bilinear_in_slices_of_both_streams(num_heads):
    fusion = BilinearFusion(6, 4, num_heads=num_heads).double()
    torch.nn.init.normal_(fusion.x_weight.bias)
    state = {k: v.numpy() for k, v in fusion.state_dict().items()}
    random = np.random.default_rng(0)
    xs, ys = random.normal(size=(5, 6)), random.normal(size=(5, 4))
    expected = []
    for x, y in zip(xs, ys, strict=True):
        logit = state["x_weight.bias"] + state["x_weight.weight"] @ x
        logit = logit + state["y_weight.weight"] @ y
        slices = zip(
            np.split(x, num_heads), np.split(y, num_heads), state["heads"], strict=True
        )
        for x_slice, y_slice, weight in slices:
            logit = logit + x_slice @ weight @ y_slice
        expected.append(logit)
    found = fusion(torch.from_numpy(xs), torch.from_numpy(ys)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_gradient_reaches_every_parameter():
    fusion = BilinearFusion(6, 4, num_heads=2)
    fusion(torch.randn(3, 6), torch.randn(3, 4)).square().sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_an_empty_batch_has_no_logits():
    assert BilinearFusion(6, 4)(torch.zeros(0, 6), torch.zeros(0, 4)).shape == (0, 1)


def test_widths_that_heads_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="6 and 4 must be multiples of the 3 heads"):
        BilinearFusion(6, 4, num_heads=3)
