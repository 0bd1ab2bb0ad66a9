"""A column of a typed table as one array."""

from __future__ import annotations

import pyarrow as pa


def whole_column(typed: pa.Table, name: str) -> pa.Array:
    """Return a column; it is copied only where it lies in several pieces."""
    column = typed[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
