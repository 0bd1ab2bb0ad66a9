"""What is kept of a sampled row: its label, raw numbers, ids and what is missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.features import Encoding
from dlrm.config.schema import FeatureSchema
from dlrm.data.columns.whole_column import whole_column
from dlrm.data.contract.sample import Columns
from dlrm.data.storage.rows import EncodedRows, starts_of

LABEL, TIME = "label", "time"
NO_ID = -1


def number_column(name: str) -> str:
    """Name the raw values of a number: float64, NaN where missing."""
    return f"number:{name}"


def id_column(name: str) -> str:
    """Name a feature's ids, int32: of a bag its first, ``NO_ID`` where it is empty."""
    return f"id:{name}"


def missing_column(name: str) -> str:
    """Name the bools that say where a feature of ids has no value."""
    return f"missing:{name}"


def pick_columns(
    typed: pa.Table,
    rows: EncodedRows,
    schema: FeatureSchema,
    chosen: np.ndarray,
    times: np.ndarray | None,
) -> Columns:
    """Return some rows of a chunk, column by column."""
    found: Columns = {LABEL: rows.labels.take(chosen)}
    if times is not None:
        found[TIME] = times.take(chosen)
    for dense in schema.dense:
        values = whole_column(typed, f"dense:{dense.name}").to_numpy()
        found[number_column(dense.name)] = values.take(chosen)
    for index, fitted in enumerate(schema.one_hot):
        column = whole_column(typed, f"sparse:{fitted.name}")
        if fitted.feature.encoding is Encoding.bucketize:
            found[number_column(fitted.name)] = column.to_numpy().take(chosen)
            continue
        found[id_column(fitted.name)] = rows.one_hot[:, index].take(chosen)
        codes = column.indices.to_numpy().take(chosen)
        found[missing_column(fitted.name)] = _is_empty(column.dictionary, codes)
    return found | _bags(rows, schema, chosen)


def _bags(rows: EncodedRows, schema: FeatureSchema, chosen: np.ndarray) -> Columns:
    if not schema.multi_hot:
        return {}
    found: Columns = {}
    lengths = rows.bag_lengths[chosen].astype(np.int64)
    starts = starts_of(rows.bag_lengths.sum(axis=1, dtype=np.int64))[chosen]
    for index, fitted in enumerate(schema.multi_hot):
        own = lengths[:, index]
        ids = np.full(chosen.size, NO_ID, dtype=np.int32)
        ids[own > 0] = rows.bag_values[starts[own > 0]]
        found[id_column(fitted.name)] = ids
        found[missing_column(fitted.name)] = own == 0
        starts = starts + own
    return found


def _is_empty(texts: pa.Array, codes: np.ndarray) -> np.ndarray:
    found: np.ndarray
    if len(texts) > codes.size:
        picked = texts.take(pa.array(codes))
        found = pc.equal(picked, "").to_numpy(zero_copy_only=False)
        return found
    found = pc.equal(texts, "").to_numpy(zero_copy_only=False)[codes]
    return found
