"""Layers x_{l+1} = x_0 * (W_l x_l + b_l) + x_l of DCN V2, as one function.

W_l is one matrix or a product of two thin ones. Beside the matrix products a layer's
tensors are read once forward and once backward, and the gradient of x_l is added up
inside a matrix product.

Shape suffixes: B = batch, I = input width, R = rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dlrm.layers.dense_passes import cross_gradients, cross_values, weight_gradient
from dlrm.layers.recomputed import recomputed_gradients


def cross_layers(
    x_BI: torch.Tensor, layers: Sequence[tuple[torch.Tensor, ...]]
) -> torch.Tensor:
    """Return the crossed input, [B, I].

    Each layer is W [I, I] and b [I], or V [R, I], U [I, R] and b for W = U V.
    """
    if not layers:
        return x_BI
    parameters = [parameter for layer in layers for parameter in layer]
    return _CrossLayers.apply(  # type: ignore[no-untyped-call]
        x_BI.contiguous(), len(layers[0]), *parameters
    )


def _layers_of(
    parameters: Sequence[torch.Tensor], size: int
) -> list[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    """Return each layer's matrices, in order of use, and its bias."""
    starts = range(0, len(parameters), size)
    layers = [tuple(parameters[start : start + size]) for start in starts]
    return [(layer[:-1], layer[-1]) for layer in layers]


class _CrossLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BI: torch.Tensor, size: int, *parameters: torch.Tensor
    ) -> torch.Tensor:
        values, kept = x_BI, []
        for matrices, bias_I in _layers_of(parameters, size):
            steps = [values]
            for matrix in matrices:
                steps.append(torch.mm(steps[-1], matrix.t()))
            kept += steps
            values = cross_values(steps[-1], bias_I, x_BI, values)
        ctx.size, ctx.num_parameters = size, len(parameters)
        ctx.save_for_backward(*parameters, *kept)
        return values

    @staticmethod
    def backward(ctx: Any, grad_BI: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved, size = ctx.saved_tensors, ctx.size
        parameters, kept = saved[: ctx.num_parameters], saved[ctx.num_parameters :]
        if torch.is_grad_enabled():

            def plain(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
                return _by_torch(x, parameters, size)

            of_x, *rest = recomputed_gradients(plain, [kept[0], *parameters], grad_BI)
            return of_x, None, *rest
        of_x, found = _gradients(grad_BI, _layers_of(parameters, size), kept, size)
        return of_x, None, *found


def _gradients(
    grad_BI: torch.Tensor,
    layers: Sequence[tuple[tuple[torch.Tensor, ...], torch.Tensor]],
    kept: Sequence[torch.Tensor],
    size: int,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the gradients of the input and of all parameters.

    ``kept`` holds each layer's input, what its first matrix makes of it, and so on.
    """
    x_BI, of_x = kept[0], None
    found: list[torch.Tensor] = []
    grad_BI, own = grad_BI.contiguous(), False
    for layer in reversed(range(len(layers))):
        matrices, bias_I = layers[layer]
        steps = kept[layer * size : (layer + 1) * size]
        grad, of_bias, of_x = cross_gradients(grad_BI, steps[-1], bias_I, x_BI, of_x)
        of_layer = [of_bias]
        for matrix, inputs in zip(matrices[:0:-1], steps[-2:0:-1], strict=True):
            of_layer.append(weight_gradient(grad, inputs))
            grad = torch.mm(grad, matrix)
        of_layer.append(weight_gradient(grad, steps[0]))
        # The sum over both ways to x_l is the product's own; what came from outside
        # may be read by others.
        out = grad_BI if own else None
        grad_BI = torch.addmm(grad_BI, grad, matrices[0], out=out)
        own = True
        found = [*reversed(of_layer), *found]
    assert of_x is not None
    return grad_BI.add_(of_x), found


def _by_torch(
    x_BI: torch.Tensor, parameters: Sequence[torch.Tensor], size: int
) -> torch.Tensor:
    values = x_BI
    for matrices, bias_I in _layers_of(parameters, size):
        product = values
        for matrix in matrices:
            product = torch.mm(product, matrix.t())
        values = torch.addcmul(values, x_BI, product + bias_I)
    return values
