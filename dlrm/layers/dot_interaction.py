"""The dot interaction of DLRM (Naumov et al. 2019, section 2.1.3).

Shape suffixes: B = batch, F = number of vectors, D = their width, P = F * (F - 1) / 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable


class _PairProducts(torch.autograd.Function):
    """Pair products whose backward needs one matrix product instead of two."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x_BFD: torch.Tensor,
        flat_pair_index: torch.Tensor,
        pair_of_cell: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(x_BFD, pair_of_cell)
        gram_BFF = torch.bmm(x_BFD, x_BFD.transpose(1, 2))
        return gram_BFF.flatten(1).index_select(1, flat_pair_index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BP: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        # d(x_i . x_j) is x_j for x_i and x_i for x_j, so the gradient is one product
        # with the symmetric matrix of pair gradients. Its diagonal, which stands for no
        # pair, borrows some pair's value in the gather and is cleared.
        x_BFD, pair_of_cell = ctx.saved_tensors
        batch, num_vectors = x_BFD.shape[:2]
        symmetric_BFF = grad_BP.index_select(1, pair_of_cell)
        symmetric_BFF = symmetric_BFF.view(batch, num_vectors, num_vectors)
        symmetric_BFF.diagonal(dim1=1, dim2=2).zero_()
        return torch.bmm(symmetric_BFF, x_BFD), None, None


class DotInteraction(nn.Module):
    """Dot products of every pair of different vectors."""

    flat_pair_index: torch.Tensor
    pair_of_cell: torch.Tensor

    def __init__(self, num_vectors: int) -> None:
        super().__init__()
        if num_vectors < 2:
            raise ValueError(
                f"A dot interaction needs at least 2 vectors, but got {num_vectors}. "
                f"Add a feature, or use another interaction."
            )
        rows, columns = torch.triu_indices(num_vectors, num_vectors, offset=1)
        pair_of_cell = torch.zeros(num_vectors, num_vectors, dtype=torch.int64)
        pair_of_cell[rows, columns] = torch.arange(rows.numel())
        pair_of_cell[columns, rows] = torch.arange(rows.numel())
        flat_pair_index = rows * num_vectors + columns
        self.register_buffer("flat_pair_index", flat_pair_index, persistent=False)
        self.register_buffer("pair_of_cell", pair_of_cell.flatten(), persistent=False)
        self.num_vectors = num_vectors
        self.output_dim = rows.numel()

    def forward(self, x_BFD: torch.Tensor) -> torch.Tensor:
        """Return the pair products, shape [B, P], in row-major upper-triangle order.

        Raises:
            ValueError: ``x_BFD`` does not hold ``num_vectors`` vectors.
        """
        if x_BFD.dim() != 3 or x_BFD.shape[1] != self.num_vectors:
            raise ValueError(
                f"A dot interaction of {self.num_vectors} vectors takes "
                f"[B, {self.num_vectors}, D], but got {list(x_BFD.shape)}."
            )
        return _PairProducts.apply(  # type: ignore[no-untyped-call]
            x_BFD, self.flat_pair_index, self.pair_of_cell
        )
