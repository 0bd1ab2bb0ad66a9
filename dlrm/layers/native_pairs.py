"""The dot interaction's native kernel under autograd.

Shape suffixes: B = batch, D = width of a vector, I = widths of the others together,
O = columns of the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from dlrm.layers.dense_passes import takes_native


def native_pairs(
    first_BD: torch.Tensor | None,
    others_BI: torch.Tensor,
    *,
    width: int,
    num_kept: int = 0,
    padding: int = 0,
) -> torch.Tensor | None:
    """Return kept vectors, products of all pairs and columns of zeros, [B, O].

    ``first_BD`` is one of the vectors, before ``others_BI``; pairs stand in row-major
    upper-triangle order. None where there is no kernel for such tensors.
    """
    given = [others_BI] if first_BD is None else [first_BD, others_BI]
    if not all(takes_native(x) for x in given) or torch.is_autocast_enabled("cpu"):
        return None
    return _NativePairs.apply(  # type: ignore[no-untyped-call]
        None if first_BD is None else _in_rows(first_BD),
        _in_rows(others_BI),
        width,
        num_kept,
        padding,
    )


class _NativePairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        first_BD: torch.Tensor | None,
        others_BI: torch.Tensor,
        width: int,
        num_kept: int,
        padding: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(first_BD, others_BI)
        ctx.options = (width, num_kept, padding)
        return torch.ops.dlrm.dot_pairs(first_BD, others_BI, width, num_kept, padding)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_BO: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, None, None, None]:
        first_BD, others_BI = ctx.saved_tensors
        of_first, of_others = torch.ops.dlrm.dot_pairs_backward(
            _in_rows(grad_BO), first_BD, others_BI, *ctx.options
        )
        return None if first_BD is None else of_first, of_others, None, None, None


def _in_rows(matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix whose rows lie in one piece each."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()
