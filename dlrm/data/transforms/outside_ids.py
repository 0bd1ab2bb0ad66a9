"""Counts of the ids of new rows that their vocabulary or table does not have."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from dlrm.config.features import Encoding, OutOfRange
from dlrm.config.schema import FeatureSchema, FittedSparse

_SENT = {
    OutOfRange.oov: "sent to row 0",
    OutOfRange.clamp: "sent to the nearest row",
    OutOfRange.hash: "hashed to a row",
}


class OutsideIds:
    """Counts by feature over all rows that were encoded with ``observe``."""

    def __init__(self, *, keep_rows: bool = False) -> None:
        """Start at zero; ``keep_rows`` notes the rows too, a bit a row and feature."""
        self._keep_rows = keep_rows
        self._bits: defaultdict[str, list[tuple[np.ndarray, int]]] = defaultdict(list)
        self._ids: defaultdict[str, int] = defaultdict(int)
        self._outside: defaultdict[str, int] = defaultdict(int)

    def observe(
        self, name: str, is_outside: np.ndarray, lengths: np.ndarray | None
    ) -> None:
        """Count one feature's ids; see ``Observer``."""
        self._ids[name] += is_outside.size
        self._outside[name] += int(np.count_nonzero(is_outside))
        if self._keep_rows:
            rows = is_outside
            if lengths is not None:
                rows = np.zeros(len(lengths), dtype=bool)
                rows[np.repeat(np.arange(len(lengths)), lengths)[is_outside]] = True
            self._bits[name].append((np.packbits(rows), len(rows)))

    def rows(self, name: str) -> np.ndarray:
        """Say which rows have such an id of a feature, one of its bag at least: [R].

        There are no rows unless they were to be kept.
        """
        parts = [
            np.unpackbits(bits, count=size).astype(bool)
            for bits, size in self._bits[name]
        ]
        return np.concatenate([np.zeros(0, dtype=bool), *parts])

    def record(self) -> dict[str, dict[str, int]]:
        """Return by feature ``num_ids`` and ``num_outside``."""
        return {
            name: {"num_ids": size, "num_outside": self._outside[name]}
            for name, size in self._ids.items()
        }

    def describe(self, schema: FeatureSchema) -> list[str]:
        """Return a line for each feature that has ids outside."""
        return [
            _line(fitted, self._outside[fitted.name], self._ids[fitted.name])
            for fitted in schema.sparse
            if self._outside[fitted.name]
        ]


def _line(fitted: FittedSparse, num_outside: int, num_ids: int) -> str:
    known = fitted.feature.encoding is Encoding.vocabulary
    sent = _SENT[fitted.feature.out_of_range]
    if fitted.feature.text is not None:
        sent = "left out"
    return (
        f"{fitted.name}: {num_outside:,} of {num_ids:,} ids "
        f"({num_outside / num_ids:.2%}) are outside the "
        f"{'vocabulary' if known else 'table'}, {sent}"
    )
