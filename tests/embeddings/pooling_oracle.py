"""Every pooling straight from its definition, bag by bag, in float64 under autograd."""

from __future__ import annotations

import math

import torch

from dlrm.config.features import Pooling


def pooled_bag(
    rows: torch.Tensor,
    weights: torch.Tensor,
    pooling: Pooling,
    query: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return one bag's vector [D] from its rows [n, D] and their weights [n]."""
    nothing = rows.sum(0) * 0
    if len(rows) == 0:
        return nothing
    terms = weights[:, None] * rows
    match pooling:
        case Pooling.sum:
            return terms.sum(0)
        case Pooling.mean:
            total = weights.sum()
            return terms.sum(0) / total if total else nothing
        case Pooling.sqrtn:
            total = sum(w * w for w in weights)
            return terms.sum(0) / total.sqrt() if total else nothing
        case Pooling.max:
            # Of equal ones Python's max takes the first, as torch's does.
            values = terms.tolist()
            first = [
                max(range(len(values)), key=lambda i, c=column: values[i][c])
                for column in range(rows.shape[1])
            ]
            return terms[first, range(rows.shape[1])]
        case Pooling.attention:
            assert query is not None
            if not weights.any():
                return nothing
            powers = weights * torch.exp(rows @ query / math.sqrt(rows.shape[1]))
            return (powers[:, None] * rows).sum(0) / powers.sum()


def pooled(
    weight: torch.Tensor,
    bags: list[tuple[list[int], torch.Tensor | None]],
    pooling: Pooling,
    query: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the vectors [B, D] of bags of (ids, weights) over a table [R, D]."""
    return torch.stack(
        [
            pooled_bag(
                torch.stack([weight[i] for i in ids]) if ids else weight[:0],
                weight.new_ones(len(ids)) if weights is None else weights,
                pooling,
                query,
            )
            for ids, weights in bags
        ]
    )
