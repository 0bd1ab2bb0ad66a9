"""The dot interaction of DLRM (Naumov et al. 2019, section 2.1.3).

Shape suffixes: B = batch, F = number of vectors, D = their width, C = F * F cells of
their Gram matrix, P = F * (F - 1) / 2 pairs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from dlrm.layers.native_pairs import native_pairs


class Scratch:
    """One buffer for Gram matrices, kept from step to step.

    At training sizes it is several megabytes, which an allocator maps and faults in
    anew each time; nothing of it is read after the call that filled it.
    """

    def __init__(self) -> None:
        self._buffer = torch.empty(0)

    def take(self, like: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the buffer in a shape, with the type and device of ``like``."""
        held = self._buffer
        fits = held.dtype == like.dtype and held.device == like.device
        if not fits or held.shape != shape:
            self._buffer = like.new_empty(shape)
        return self._buffer


class _PairProducts(torch.autograd.Function):
    """Pair products whose backward needs one matrix product instead of two."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BFD: torch.Tensor,
        cell_of_pair: torch.Tensor,
        pair_of_cell: torch.Tensor,
        scratch: Scratch,
    ) -> torch.Tensor:
        ctx.save_for_backward(x_BFD, pair_of_cell)
        ctx.scratch = scratch
        batch, num_vectors = x_BFD.shape[:2]
        gram_BC = scratch.take(x_BFD, (batch, num_vectors * num_vectors))
        gram_BFF = gram_BC.view(batch, num_vectors, num_vectors)
        torch.bmm(x_BFD, x_BFD.transpose(1, 2), out=gram_BFF)
        return gram_BC.index_select(1, cell_of_pair)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_BP: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        # d(x_i . x_j) is x_j for x_i and x_i for x_j, so the gradient is one product
        # with the symmetric matrix of pair gradients. Its diagonal, which stands for no
        # pair, borrows some pair's value in the gather and is cleared.
        x_BFD, pair_of_cell = ctx.saved_tensors
        batch, num_vectors = x_BFD.shape[:2]
        symmetric_BC = ctx.scratch.take(grad_BP, (batch, num_vectors * num_vectors))
        torch.index_select(grad_BP, 1, pair_of_cell, out=symmetric_BC)
        symmetric_BFF = symmetric_BC.view(batch, num_vectors, num_vectors)
        symmetric_BFF.diagonal(dim1=1, dim2=2).zero_()
        return torch.bmm(symmetric_BFF, x_BFD), None, None, None


class DotInteraction(nn.Module):
    """Dot products of every pair of different vectors."""

    cell_of_pair: torch.Tensor
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
        cell_of_pair = rows * num_vectors + columns
        self.register_buffer("cell_of_pair", cell_of_pair, persistent=False)
        self.register_buffer("pair_of_cell", pair_of_cell.flatten(), persistent=False)
        self.scratch = Scratch()
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
        width = x_BFD.shape[2]
        found = native_pairs(None, x_BFD.flatten(1), width=width) if width else None
        if found is not None:
            return found
        return _PairProducts.apply(  # type: ignore[no-untyped-call]
            x_BFD, self.cell_of_pair, self.pair_of_cell, self.scratch
        )
