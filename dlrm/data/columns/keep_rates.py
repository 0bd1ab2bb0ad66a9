"""The share of non-clicks like a row that were kept, from its raw column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dlrm.data.columns.parse_numbers import Numbers, parse_numbers


def keep_rates(values: pa.Array, column: str) -> Numbers:
    """Read shares in (0, 1]; a missing one is 1: all such rows were kept.

    Raises:
        DataError: Values of this type are no numbers.
    """
    found = parse_numbers(values, f"The column {column!r} (data.keep_rate_column)")
    rates = np.where(np.isnan(found.values), 1.0, found.values)
    bad = ~((rates > 0) & (rates <= 1))
    bad[found.bad] = True
    return Numbers(rates, np.flatnonzero(bad))
