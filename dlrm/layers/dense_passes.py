"""What stands between the matrix products of dense layers, in one pass each.

Every function takes its native kernel for float32 on a CPU where the library is built,
else torch's operators, which give the same numbers to rounding. Sums over rows are the
same to the bit for any number of threads.

Shape suffixes: B = batch, O = output width, I = input width.
"""

from __future__ import annotations

import torch

from dlrm.kernels.library import native

_NARROW = 32
"""Input columns below which a weight's gradient is computed turned over."""


def is_fused(x: torch.Tensor) -> bool:
    """Say whether layers take their own backward passes for an input.

    They do for matrices on a CPU; on a GPU and under autocast, torch's operators do as
    well or better.
    """
    return (
        isinstance(x, torch.Tensor)  # Not what stands for one in tracing.
        and x.device.type == "cpu"
        and x.dim() == 2
        and not torch.is_autocast_enabled("cpu")
    )


def takes_native(x: torch.Tensor) -> bool:
    """Say whether a tensor goes to the native kernels."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and native()


def add_bias_(values_BO: torch.Tensor, bias_O: torch.Tensor, *, relu: bool) -> None:
    """Add the bias and, if asked for, cut off below 0, in place."""
    if takes_native(values_BO):
        torch.ops.dlrm.add_bias_(values_BO, bias_O, relu)
        return
    values_BO.add_(bias_O)
    if relu:
        values_BO.relu_()


def masked_gradient(
    grad_BO: torch.Tensor, outputs_BO: torch.Tensor | None, *, in_place: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradient before a ReLU with these outputs, and the bias's [O].

    Without outputs there was no ReLU. ``in_place`` overwrites the gradient, which is
    allowed only to who made it.
    """
    if takes_native(grad_BO):
        if grad_BO.stride(1) != 1 and grad_BO.shape[1] > 1:
            grad_BO = grad_BO.contiguous()
        into = grad_BO
        if outputs_BO is not None and not in_place:
            into = torch.empty_like(outputs_BO)
        return into, torch.ops.dlrm.mask_and_sum(grad_BO, outputs_BO, into)
    if outputs_BO is not None:
        # NaN is not at most 0: its gradient passes, as torch's own ReLU lets it.
        grad_BO = grad_BO.masked_fill(outputs_BO <= 0, 0)
    return grad_BO, grad_BO.sum(dim=0)


def weight_gradient(grad_BO: torch.Tensor, inputs_BI: torch.Tensor) -> torch.Tensor:
    """Return the gradient [O, I] of a linear layer's weight.

    With few inputs MKL is several times as fast the other way round.
    """
    if inputs_BI.shape[1] < _NARROW < grad_BO.shape[1]:
        return torch.mm(inputs_BI.t(), grad_BO).t().contiguous()
    return torch.mm(grad_BO.t(), inputs_BI)


def cross_values(
    product_BI: torch.Tensor,
    bias_I: torch.Tensor,
    first_BI: torch.Tensor,
    values_BI: torch.Tensor,
) -> torch.Tensor:
    """Return first * (product + bias) + values."""
    if takes_native(product_BI):
        return torch.ops.dlrm.cross(product_BI, bias_I, first_BI, values_BI)
    return torch.addcmul(values_BI, first_BI, product_BI + bias_I)


def cross_gradients(
    grad_BI: torch.Tensor,
    product_BI: torch.Tensor,
    bias_I: torch.Tensor,
    first_BI: torch.Tensor,
    first_grad_BI: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of ``cross_values`` by product, bias and first.

    That of first is added to ``first_grad_BI``, in place, where it is given.
    """
    adds = first_grad_BI is not None
    if first_grad_BI is None:
        first_grad_BI = torch.empty_like(first_BI)
    if takes_native(grad_BI):
        product_grad_BI, bias_grad_I = torch.ops.dlrm.cross_backward(
            grad_BI, product_BI, bias_I, first_BI, first_grad_BI, adds
        )
        return product_grad_BI, bias_grad_I, first_grad_BI
    of_first_BI = grad_BI * (product_BI + bias_I)
    first_grad_BI = first_grad_BI.add_(of_first_BI) if adds else of_first_BI
    product_grad_BI = grad_BI * first_BI
    return product_grad_BI, product_grad_BI.sum(dim=0), first_grad_BI
