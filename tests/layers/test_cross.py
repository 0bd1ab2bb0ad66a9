from __future__ import annotations

import numpy as np
import pytest
import torch

from dlrm.layers.cross import CrossKind, FullRankCross, build_cross
from dlrm.layers.low_rank_cross import LowRankCross
from dlrm.layers.mixture_cross import MixtureCross


def test_full_rank_layers_follow_equation_1():
    layer = FullRankCross(5, num_layers=2).double()
    torch.nn.init.normal_(layer.maps[1].bias)
    x0 = torch.randn(4, 5, dtype=torch.float64)
    rows = []
    for start in x0.numpy():
        x = start
        for linear in layer.maps:
            w, b = linear.weight.detach().numpy(), linear.bias.detach().numpy()
            x = start * (w @ x + b) + x
        rows.append(x)
    np.testing.assert_allclose(layer(x0).detach().numpy(), rows, atol=1e-12)


def test_mixture_layers_sum_gated_experts_as_equations_4_and_5():
    experts, rank = 3, 2
    layer = MixtureCross(5, num_layers=2, rank=rank, num_experts=experts).double()
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    x0 = torch.randn(4, 5, dtype=torch.float64)
    state = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    rows = []
    for start in x0.numpy():
        x = start
        for number in range(2):
            own = {
                k.split(".", 2)[2]: v for k, v in state.items() if f".{number}." in k
            }
            scores = np.exp(own["gate.weight"] @ x + own["gate.bias"])
            gates = scores / scores.sum()
            total = x
            for i in range(experts):
                columns = slice(i * rank, (i + 1) * rank)
                v, c = own["down.weight"][columns], own["inner"][i]
                u = own["up.weight"][:, columns]
                inner = np.tanh(c @ np.tanh(v @ x))
                total = total + gates[i] * start * (u @ inner + own["up.bias"])
            x = total
        rows.append(x)
    np.testing.assert_allclose(layer(x0).detach().numpy(), rows, atol=1e-12)


@pytest.mark.parametrize("kind", CrossKind)
def test_the_gradient_reaches_every_parameter_and_the_width_is_kept(kind):
    torch.manual_seed(0)
    cross = build_cross(kind, 5, num_layers=2, rank=3, num_experts=2)
    found = cross(torch.randn(4, 5))
    assert found.shape == (4, cross.output_dim) == (4, 5)
    found.square().sum().backward()
    for name, parameter in cross.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CrossKind.full_rank, FullRankCross),
        (CrossKind.low_rank, LowRankCross),
        (CrossKind.mixture, MixtureCross),
    ],
)
def test_each_kind_is_built_by_its_name(kind, expected):
    cross = build_cross(kind, 4, num_layers=1, rank=2, num_experts=3)
    assert type(cross) is expected


@pytest.mark.parametrize("kind", CrossKind)
def test_another_width_is_refused(kind):
    cross = build_cross(kind, 5, num_layers=1, rank=2, num_experts=2)
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied \(2x4 and 5x"):
        cross(torch.zeros(2, 4))


@pytest.mark.parametrize("kind", CrossKind)
def test_an_empty_batch_stays_empty(kind):
    cross = build_cross(kind, 5, num_layers=1, rank=2, num_experts=2)
    assert cross(torch.zeros(0, 5)).shape == (0, 5)
