from __future__ import annotations

import pytest
import torch
from torch import nn

from dlrm.layers.deep_cross import DeepCross, Structure


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def build(structure: Structure, widths: list[int]) -> DeepCross:
    return DeepCross(Doubled(), 3, structure=structure, widths=widths).double()


def test_stacked_feeds_the_crossed_input_to_the_mlp():
    head = build(Structure.stacked, [4])
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(head(x), head.logit(head.mlp(2 * x)))
    assert head.logit.layers[0].in_features == 4


def test_parallel_adds_up_a_linear_logit_of_both():
    head = build(Structure.parallel, [4])
    x = torch.randn(5, 3, dtype=torch.float64)
    weight, bias = head.logit.layers[0].weight[0], head.logit.layers[0].bias
    expected = 2 * x @ weight[:3] + head.mlp(x) @ weight[3:] + bias
    torch.testing.assert_close(head(x)[:, 0], expected)


@pytest.mark.parametrize("structure", Structure)
def test_the_gradient_reaches_every_parameter(structure):
    torch.manual_seed(0)
    head = build(structure, [8])
    head(torch.randn(16, 3, dtype=torch.float64)).square().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("structure", Structure)
def test_another_width_is_refused(structure):
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        build(structure, [4])(torch.zeros(2, 4, dtype=torch.float64))
