"""Optimizer state of one value a row, where ranges of columns have their own.

A row-wise optimizer keeps a row's mean square gradient. On a table whose columns lie
apart each range keeps that of its own columns. Other ranges get the mean over their
columns: the mean of the ranges they overlap, weighted by the columns in common.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch


def convert_row_state(
    values: torch.Tensor, edges: Sequence[int], columns: slice
) -> torch.Tensor:
    """Return the state of a range of columns, [rows], from that of others.

    Args:
        values: [rows, ranges]; or [rows], of all columns together.
        edges: Where the ranges start, and the table's width, [ranges + 1].
        columns: The range that is asked for; one of those of ``edges`` keeps its bits.
    """
    if values.dim() == 1:
        return values
    ranges = list(itertools.pairwise(edges))
    if (columns.start, columns.stop) in ranges:
        return values[:, ranges.index((columns.start, columns.stop))]
    common = [
        max(min(stop, columns.stop) - max(start, columns.start), 0)
        for start, stop in ranges
    ]
    shares = torch.tensor(common, dtype=torch.float64) / (columns.stop - columns.start)
    return (values.double() * shares).sum(dim=1).to(values.dtype)


def describe_conversion(
    table: str, name: str, *, old: Sequence[int], new: Sequence[int]
) -> str:
    """Return the line for the user; ``old`` and ``new`` are edges of ranges."""
    return f"state   {table}: {name} {conversion(old, new)}"


def conversion(old: Sequence[int], new: Sequence[int]) -> str:
    """Return what happened to row-wise state, in words; both are edges of ranges."""
    return (
        f"of columns {_shown(old)} became that of {_shown(new)}, by mean over the "
        f"columns"
    )


def _shown(edges: Sequence[int]) -> str:
    pairs = itertools.pairwise(edges)
    return ", ".join(f"{start}-{stop - 1}" for start, stop in pairs)
