"""The order of whole-number keys, by one sort of keys and row numbers together."""

from __future__ import annotations

import numpy as np

from dlrm.metrics.blocks import blocks, for_each, sort_in_place


def sort_rows(keys: np.ndarray, *, num_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys in order and each one's row; rows of equal keys in any order.

    A key's upper bits and its row's number make one int64, and these are sorted: three
    times as fast as sorting an index by comparing keys. Rows whose keys differ only in
    the bits that found no place are few in practice, and are put in order afterwards.

    Args:
        keys: [R], int64, less than 2 ** (num_bits - 1) in size.
        num_bits: Bits of a key, its sign included; at most 64.
    """
    row_bits = max(len(keys) - 1, 1).bit_length()
    dropped = max(num_bits + row_bits - 64, 0)
    rows, ordered = np.empty_like(keys), np.empty_like(keys)

    def pack(block: slice) -> None:
        part = ordered[block]
        np.right_shift(keys[block], dropped, out=part)
        part <<= row_bits
        part |= np.arange(block.start, block.stop)

    def unpack(block: slice) -> None:
        np.bitwise_and(ordered[block], (1 << row_bits) - 1, out=rows[block])
        ordered[block] >>= row_bits

    for_each(pack, blocks(len(keys)))
    sort_in_place(ordered)
    for_each(unpack, blocks(len(keys)))
    return (_repair(keys, rows, prefixes=ordered) if dropped else ordered), rows


def _repair(keys: np.ndarray, rows: np.ndarray, *, prefixes: np.ndarray) -> np.ndarray:
    """Put rows of one prefix in the order of their keys, in place; return the keys."""
    alike = prefixes[1:] == prefixes[:-1]
    ordered = gather(keys, rows)
    if np.any(ordered[1:] < ordered[:-1]):
        # Prefixes rise with keys: sorting all rows that share one at once moves none
        # out of the places of its own.
        shared = np.zeros(len(rows), dtype=bool)
        shared[1:] |= alike
        shared[:-1] |= alike
        places = np.flatnonzero(shared)
        chosen = rows[places[np.argsort(ordered[places])]]
        rows[places], ordered[places] = chosen, keys[chosen]
    return ordered


def gather(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return ``values`` of the rows."""
    found = np.empty(len(rows), dtype=values.dtype)

    def take(block: slice) -> None:
        values.take(rows[block], out=found[block], mode="clip")

    for_each(take, blocks(len(rows)))
    return found
