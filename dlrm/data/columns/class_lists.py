"""The label column of tasks with classes: each row's classes as a list."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dlrm.config.delimiters import bag_delimiter
from dlrm.config.errors import DataError
from dlrm.config.labels import LabelKind
from dlrm.data.columns.canonical_text import encode_text
from dlrm.data.columns.raw_bags import parse_bags
from dlrm.data.storage.rows import starts_of


def parse_classes(
    values: pa.Array, kind: LabelKind, *, delimiter: str | None, what: str
) -> tuple[pa.ListArray, np.ndarray]:
    """Return list<dictionary<int32, string>> [R], and the rows that break the kind.

    A class that a row names twice is one. Rows of ``multiclass`` must have one class;
    a multilabel row may have none.

    Raises:
        DataError: The column is of a type that cannot name classes.
    """
    if kind is LabelKind.multiclass and not _holds_lists(values):
        texts = encode_text(values, what)
        starts = pa.array(np.arange(len(texts) + 1, dtype=np.int32))
        values = pa.ListArray.from_arrays(starts, texts)
    elif delimiter is None and not (_holds_lists(values) or _is_empty(values)):
        raise DataError(
            f"{what} must hold lists of classes, or text with a delimiter, as "
            f"data.label_kind is {kind.value}, but it holds {values.type} values. Set "
            f"data.label_delimiter, or data.label_kind=multiclass."
        )
    cut = None if delimiter is None else bag_delimiter(delimiter, key=what)
    bags = parse_bags(
        values,
        None,
        delimiter=cut,
        max_length=None,
        what=what,
        report=lambda rows, describe: None,
    )
    classes = _each_once(bags.ids)
    if kind is not LabelKind.multiclass:
        return classes, np.zeros(0, dtype=np.int64)
    return classes, np.flatnonzero(np.diff(classes.offsets.to_numpy()) != 1)


def _holds_lists(values: pa.Array) -> bool:
    kind = values.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_nested(kind))


def _is_empty(values: pa.Array) -> bool:
    return bool(pa.types.is_null(values.type))


def _each_once(classes: pa.ListArray) -> pa.ListArray:
    texts = classes.values
    lengths = np.diff(classes.offsets.to_numpy())
    rows = np.repeat(np.arange(lengths.size), lengths)
    keys = rows * max(1, len(texts.dictionary)) + texts.indices.to_numpy()
    _, first = np.unique(keys, return_index=True)
    if first.size == keys.size:
        return classes
    kept = np.sort(first)
    counts = np.bincount(rows[kept], minlength=lengths.size)
    offsets = pa.array(starts_of(counts).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, texts.take(pa.array(kept)))
