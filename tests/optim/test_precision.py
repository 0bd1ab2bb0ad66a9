from __future__ import annotations

import warnings

import pytest
import torch

from dlrm.config.trainer import Precision
from dlrm.layers.mlp import MLP
from dlrm.optim.precision import lower_forward, products_in

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("precision", "device", "setting"),
    [
        (Precision.fp32, CPU, "highest"),
        (Precision.tf32, CUDA, "high"),
        (Precision.bf16, CPU, "medium"),
        (Precision.bf16, CUDA, "high"),
    ],
)
def test_products_have_the_precision_inside_alone(precision, device, setting):
    before = torch.get_float32_matmul_precision()
    with products_in(precision, device):
        assert torch.get_float32_matmul_precision() == setting
    assert torch.get_float32_matmul_precision() == before


def test_only_bf16_on_a_gpu_is_autocast():
    assert not isinstance(lower_forward(Precision.bf16, CPU), torch.autocast)
    assert not isinstance(lower_forward(Precision.tf32, CUDA), torch.autocast)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Without a GPU torch says so.
        assert isinstance(lower_forward(Precision.bf16, CUDA), torch.autocast)


def test_an_mlp_in_bf16_is_near_float32_in_values_and_gradients():
    torch.manual_seed(0)
    mlp, x = MLP(64, [256, 128], output_dim=1), torch.randn(512, 64)

    def step(precision: Precision) -> list[torch.Tensor]:
        mlp.zero_grad()
        with products_in(precision, CPU):
            output = mlp(x)
            output.square().mean().backward()
        return [output.detach(), *[p.grad.clone() for p in mlp.parameters()]]

    for low, full in zip(step(Precision.bf16), step(Precision.fp32), strict=True):
        assert low.dtype == torch.float32
        # Factors are off by up to 1 / 256, and units near 0 change sides of their ReLU.
        assert float((low - full).norm() / full.norm()) < 0.1
