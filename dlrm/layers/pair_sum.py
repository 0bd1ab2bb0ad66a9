"""The second-order term of factorization machines (Rendle 2010, section III.A).

Shape suffixes: B = batch, F = number of vectors, D = their width.
"""

from __future__ import annotations

import torch


def pair_sum(x_BFD: torch.Tensor) -> torch.Tensor:
    """Return the sum of the dot products of all pairs of different vectors, [B, 1].

    It takes F D steps a row instead of F^2 D, as the square of a sum holds every pair
    twice and every vector's own square once (Rendle 2010, lemma 3.1).
    """
    sum_BD = x_BFD.sum(dim=1)
    joined = x_BFD.flatten(1)
    squares_B1 = sum_BD.square().sum(dim=1, keepdim=True)
    return 0.5 * (squares_B1 - joined.square().sum(dim=1, keepdim=True))
