"""Rows that may go up and down together, numbered. Shape suffix: R = rows."""

from __future__ import annotations

import numpy as np

_MOST_SPREAD = 4
"""Whole numbers over up to so many times their count are counted, not sorted."""


def number_values(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, rising, and each one's place there, int64 [R]."""
    if values.dtype.kind in "iu" and len(values):
        low, high = int(values.min()), int(values.max())
        if high - low < _MOST_SPREAD * len(values):
            wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
            least = wide.dtype.type(low)
            offsets = (wide - least).astype(np.int64)
            present = np.bincount(offsets) > 0
            found = np.flatnonzero(present).astype(wide.dtype) + least
            return found.astype(values.dtype), (np.cumsum(present) - 1)[offsets]
    found, inverse = np.unique(values, return_inverse=True)
    return found, inverse.reshape(-1)


def check_groups(groups: np.ndarray, num_rows: int) -> np.ndarray:
    """Return the groups as an array that may be masked.

    Raises:
        ValueError: ``groups`` is not one id a row.
    """
    found: np.ndarray = np.ma.asarray(groups)
    if found.shape != (num_rows,):
        raise ValueError(
            f"groups must be one id a row, shape ({num_rows},) as the labels, but "
            f"their shape is {found.shape}."
        )
    return found


def cluster_codes(groups: np.ndarray, num_rows: int) -> np.ndarray:
    """Number the clusters from 0 without gaps: int64 [R].

    ``groups`` are any ids; rows that are masked in it are clusters of their own.

    Raises:
        ValueError: ``groups`` is not one id a row.
    """
    groups = check_groups(groups, num_rows)
    alone = np.ma.getmaskarray(groups)
    ids = np.ma.getdata(groups)
    if not alone.any():
        return number_values(ids)[1]
    found, inside = number_values(ids[~alone])
    codes = np.empty(num_rows, dtype=np.int64)
    codes[~alone] = inside
    codes[alone] = len(found) + np.arange(np.count_nonzero(alone))
    return codes


def num_distinct(codes: np.ndarray) -> int:
    """Return how many numbers there are among whole numbers from 0."""
    return int(np.count_nonzero(np.bincount(codes)))
