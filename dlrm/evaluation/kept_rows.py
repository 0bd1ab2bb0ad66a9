"""The raw columns beside scored rows. Shape suffix: R = rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def kept_rows(side: pa.Table, row_ids: np.ndarray) -> pa.Table:
    """Return the rows ``row_ids`` [R] of a table; all of them in order are no copy."""
    if len(row_ids) == len(side) and np.array_equal(row_ids, np.arange(len(side))):
        return side
    return side.take(pa.array(row_ids))
