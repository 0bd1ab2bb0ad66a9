"""Linear layers behind one another, each followed by ReLU, as one function.

Beside the matrix products each tensor is read and written once forward and once
backward: bias and ReLU in one pass, and the mask of the gradient with the sum that is
the bias's gradient in another. Autograd's own operators take twice as many. Where every
thread gets rows enough, it takes its own through all layers, without waiting for the
others after each product.

Shape suffixes: B = batch, I = input width, O = output width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dlrm.layers.dense_passes import (
    add_bias_,
    masked_gradient,
    takes_native,
    weight_gradient,
)
from dlrm.layers.recomputed import recomputed_gradients

_LEAST_ROWS = 512
"""Of a thread's own: with fewer a matrix product by one thread is slower."""


def linear_chain(
    x_BI: torch.Tensor, linears: Sequence[nn.Linear], *, last_relu: bool
) -> torch.Tensor:
    """Return [B, O] of the last layer; ReLU follows each, the last if so asked for."""
    parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
    return _Chain.apply(x_BI, last_relu, *parameters)  # type: ignore[no-untyped-call]


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BI: torch.Tensor, last_relu: bool, *parameters: torch.Tensor
    ) -> torch.Tensor:
        num_layers, num_parts = len(parameters) // 2, _num_parts(x_BI)
        if num_parts > 1:
            weights, biases = list(parameters[::2]), list(parameters[1::2])
            outputs = torch.ops.dlrm.linear_chain(
                x_BI, weights, biases, last_relu, num_parts
            )
        else:
            outputs = _outputs(x_BI, parameters, last_relu=last_relu)
        values = outputs[-1]
        if not last_relu:
            outputs.pop()
        ctx.last_relu, ctx.num_layers, ctx.num_parts = last_relu, num_layers, num_parts
        ctx.save_for_backward(x_BI, *parameters, *outputs)
        return values

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BI, *saved = ctx.saved_tensors
        parameters = saved[: 2 * ctx.num_layers]
        if torch.is_grad_enabled():
            last_relu = ctx.last_relu

            def plain(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
                return _by_torch(x, parameters, last_relu=last_relu)

            of_x, *rest = recomputed_gradients(plain, [x_BI, *parameters], grad)
            return of_x, None, *rest
        outputs = saved[2 * ctx.num_layers :]
        if ctx.num_parts > 1 and all(ctx.needs_input_grad[2:]):
            of_x, of_parameters = torch.ops.dlrm.linear_chain_backward(
                grad.contiguous(),
                x_BI,
                list(parameters[::2]),
                outputs,
                ctx.needs_input_grad[0],
                ctx.num_parts,
            )
            return of_x if ctx.needs_input_grad[0] else None, None, *of_parameters
        return _gradients(ctx.needs_input_grad, grad, x_BI, parameters, outputs)


def _num_parts(x_BI: torch.Tensor) -> int:
    """Return how many threads take rows of their own; 1 where they share products."""
    if not takes_native(x_BI):
        return 1
    num_threads = torch.get_num_threads()
    return num_threads if len(x_BI) >= num_threads * _LEAST_ROWS else 1


def _outputs(
    x_BI: torch.Tensor, parameters: Sequence[torch.Tensor], *, last_relu: bool
) -> list[torch.Tensor]:
    """Return each layer's output after its ReLU."""
    values, outputs = x_BI, []
    num_layers = len(parameters) // 2
    for layer in range(num_layers):
        weight_OI, bias_O = parameters[2 * layer : 2 * layer + 2]
        values = torch.mm(values, weight_OI.t())
        relu = layer < num_layers - 1 or last_relu
        add_bias_(values, bias_O, relu=relu)
        outputs.append(values)
    return outputs


def _gradients(
    needed: Sequence[bool],
    grad: torch.Tensor,
    x_BI: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    outputs: Sequence[torch.Tensor],
) -> tuple[torch.Tensor | None, ...]:
    """Return the gradients of the input, a flag, and the parameters, where needed."""
    found: list[torch.Tensor | None] = [None] * len(parameters)
    num_layers = len(parameters) // 2
    for layer in reversed(range(num_layers)):
        output = outputs[layer] if layer < len(outputs) else None
        # What comes from outside may be read by others; what follows is our own.
        own = layer < num_layers - 1
        grad, of_bias = masked_gradient(grad, output, in_place=own)
        if needed[2 + 2 * layer]:
            inputs = outputs[layer - 1] if layer else x_BI
            found[2 * layer] = weight_gradient(grad, inputs)
        if needed[3 + 2 * layer]:
            found[2 * layer + 1] = of_bias
        if not any(needed[: 2 + 2 * layer]):
            return None, None, *found
        grad = torch.mm(grad, parameters[2 * layer])
    return grad, None, *found


def _by_torch(
    x_BI: torch.Tensor, parameters: Sequence[torch.Tensor], *, last_relu: bool
) -> torch.Tensor:
    num_layers = len(parameters) // 2
    for layer in range(num_layers):
        weight_OI, bias_O = parameters[2 * layer : 2 * layer + 2]
        x_BI = nn.functional.linear(x_BI, weight_OI, bias_O)
        if layer < num_layers - 1 or last_relu:
            x_BI = torch.relu(x_BI)
    return x_BI
