"""Encoded values as a person knows them: numbers before scaling, ids by their keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.data.storage.feature_values import FeaturePlace, bag_of
from dlrm.data.storage.rows import EncodedRows
from dlrm.data.transforms.row_matching import FittedTables
from dlrm.data.transforms.table_keys import TableKeys

MAX_IDS = 8
"""Ids of a bag that are shown."""


class ReadableValues:
    """What the values of encoded rows stand for, as the model was given them.

    That is after clipping and after unknown ids were sent to their shared row: the raw
    value may have been another one.
    """

    def __init__(self, folder: Path, schema: FeatureSchema) -> None:
        """Take a run's folder, whose vocabularies are read when they are needed."""
        self._tables = FittedTables(folder, schema)
        self._keys: dict[str, TableKeys] = {}

    def value(self, rows: EncodedRows, place: FeaturePlace, row: int) -> str:
        """Return a feature's value in one row as text.

        Raises:
            DatasetError: A vocabulary is missing or damaged.
        """
        if isinstance(place.fitted, FittedDense):
            assert place.dense is not None
            return dense_text(rows.dense[row, place.dense], place.fitted)
        if place.one_hot is not None:
            ids = rows.one_hot[row, place.one_hot : place.one_hot + 1]
            return self._names(place.fitted, ids)[0]
        assert place.bag is not None
        ids = bag_of(rows, place.bag, row)
        if not len(ids):
            return "(none)"
        names = self._names(place.fitted, ids[:MAX_IDS])
        more = len(ids) - len(names)
        return ", ".join(names) + (f" and {more:,} more" if more else "")

    def _names(self, fitted: FittedSparse, ids: np.ndarray) -> list[str]:
        table = fitted.table
        if table not in self._keys:
            self._keys[table] = self._tables.keys(table)
        keys = self._keys[table]
        texts = keys.keys.take(pa.array(ids)).to_pylist()
        return [
            text if text is not None else _nameless(keys, int(row))
            for text, row in zip(texts, ids, strict=True)
        ]


def dense_text(columns: np.ndarray, fitted: FittedDense) -> str:
    """Return a dense value as it was before scaling, to six digits."""
    if fitted.feature.missing_indicator and columns[1] == 1:
        return "(missing)"
    value = np.float64(columns[0])
    if fitted.feature.standardize:
        value = value * fitted.std + fitted.mean
    if fitted.feature.log1p:
        value = np.copysign(np.expm1(np.abs(value)), value)
    # Scaling leaves 1e-9 of what was 0.
    return f"{round(float(value), 6) + 0.0:.6g}"


def _nameless(keys: TableKeys, row: int) -> str:
    if row == 0 and keys.has_unknown_row:
        return "(unknown or missing)"
    return f"(hashed to row {row})"
