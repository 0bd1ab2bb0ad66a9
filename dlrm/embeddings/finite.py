"""Which rows of a table hold NaN or infinity."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def is_finite(tensor: torch.Tensor) -> bool:
    """Say whether every number is finite, in one pass and without a copy.

    The least and the greatest are NaN where any number is.
    """
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    least, greatest = torch.aminmax(tensor)
    return bool(torch.isfinite(least) & torch.isfinite(greatest))


def describe_bad_rows(
    table: str, columns: Mapping[str, torch.Tensor], *, first_row: int = 0
) -> list[str]:
    """Return ``table 'item': weight of 3 rows, the first of them 17`` where that is so.

    Args:
        table: The table's name.
        columns: Weights and optimizer state by name, each [rows, ...].
        first_row: Of the table, that ``columns`` begin with.
    """
    found = []
    for name, values in columns.items():
        if is_finite(values):
            continue
        finite = torch.isfinite(values)
        bad = (finite if finite.dim() == 1 else finite.flatten(1).all(1)).logical_not()
        rows = bad.nonzero().flatten()
        amount = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
        row = first_row + int(rows[0])
        found.append(f"table '{table}': {name} of {amount}, the first of them {row:,}")
    return found
