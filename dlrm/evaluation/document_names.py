"""What to call the documents of a catalogue."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.data.catalogue import Catalogue
from dlrm.data.transforms.row_matching import FittedTables
from dlrm.data.transforms.table_keys import TableKeys

_BETWEEN_KEYS = "|"


def document_names(
    catalogue: Catalogue, schema: FeatureSchema, folder: Path
) -> pa.Array:
    """Return a name for each document: its first feature's raw value.

    A bag's values are joined by ``|``. A value that is not known, as one that training
    never saw or that was hashed, is called ``(row 7)`` after its row in the table; and
    a document whose first feature is a number is called ``(document 7)`` after its
    place in the catalogue. Documents may share a name.

    Raises:
        DatasetError: The feature's vocabulary is missing or damaged.
    """
    first = next((f for f in schema.sparse if f.name == catalogue.features[0]), None)
    if first is None:
        places = range(len(catalogue))
        return pa.array([f"(document {i})" for i in places], pa.large_string())
    bags = _ids(catalogue, schema, first)
    known = FittedTables(folder, schema).keys(first.table)
    return pa.array([_named(known, bag) for bag in bags], pa.large_string())


def _ids(
    catalogue: Catalogue, schema: FeatureSchema, feature: FittedSparse
) -> list[list[int]]:
    rows = catalogue.rows
    if not feature.feature.multi_hot:
        column = schema.one_hot.index(feature)
        return rows.one_hot[:, column : column + 1].tolist()
    before = rows.bag_lengths[:, : schema.multi_hot.index(feature)].sum(axis=1)
    starts = rows.value_starts()[:-1] + before
    stops = starts + rows.bag_lengths[:, schema.multi_hot.index(feature)]
    pairs = zip(starts.tolist(), stops.tolist(), strict=True)
    return [rows.bag_values[start:stop].tolist() for start, stop in pairs]


def _named(known: TableKeys, bag: list[int]) -> str:
    keys = known.keys.take(pa.array(bag, pa.int64())).to_pylist()
    pairs = zip(keys, bag, strict=True)
    return _BETWEEN_KEYS.join(f"(row {i})" if k is None else k for k, i in pairs)
