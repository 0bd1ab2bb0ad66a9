"""Second derivatives of what has a backward pass of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def recomputed_gradients(
    plain: Callable[..., torch.Tensor],
    inputs: Sequence[torch.Tensor | None],
    gradient: torch.Tensor,
) -> list[torch.Tensor | None]:
    """Return the gradients of ``plain(*inputs)`` as functions that can be derived.

    A backward pass written by hand reads values that it kept, which autograd cannot
    follow. Where a graph of the gradients is asked for, ``plain`` is computed anew from
    the inputs by torch's own operators and derived by autograd.
    """
    with torch.enable_grad():
        output = plain(*inputs)
    wanted = [x for x in inputs if x is not None and x.requires_grad]
    found = iter(
        torch.autograd.grad(
            output, wanted, gradient, create_graph=True, allow_unused=True
        )
    )
    return [next(found) if x is not None and x.requires_grad else None for x in inputs]
