"""Raw columns by name -> typed columns by role, every bad value with its place.

=================  =====================  ======================================
column             type                   holds
=================  =====================  ======================================
``label``          float32                0 or 1
``classes``        list of dictionary     each class once; instead of ``label``
``weight``         float32                at least 0; with ``data.weight_column``
``dense:F``        float64                NaN where missing
``sparse:F``       dictionary of string   canonical text, "" where missing
``sparse:F``       list of those          multi-hot features
``sparse:F``       float64                bucketized features; NaN where missing
``weights:F``      list<float32>          one weight an id
``time``           float64                epoch seconds; NaN where missing
``group``          dictionary of string   canonical text
``split``          int8                   place in ``SPLITS``; for ``split=column``
``raw:C``          as it came             columns kept beside the rows
``__file``         dictionary of string   where the row came from
``__row``          int64
=================  =====================  ======================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dlrm.config.data import SPLITS, DataConfig, Split
from dlrm.config.delimiters import bag_delimiter
from dlrm.config.features import DenseFeature, Encoding, Missing, SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.data.columns.canonical_text import encode_text
from dlrm.data.columns.class_lists import parse_classes
from dlrm.data.columns.keep_rates import keep_rates
from dlrm.data.columns.parse_numbers import Numbers, parse_numbers, parse_times
from dlrm.data.columns.raw_bags import parse_bags
from dlrm.data.columns.required import check_columns
from dlrm.data.columns.row_faults import RowFaults
from dlrm.data.columns.shown import cell, shown
from dlrm.data.columns.whole_column import whole_column
from dlrm.data.columns.whole_numbers import is_whole_number
from dlrm.data.columns.words import cut_words
from dlrm.data.sources.chunk import BadRow, Chunk


@dataclass(frozen=True, slots=True)
class TypedRows:
    """The sound rows of a chunk, and those left out under ``bad_rows=skip``."""

    table: pa.Table
    bad_rows: tuple[BadRow, ...] = ()


def typed_columns(
    chunk: Chunk,
    data: DataConfig,
    *,
    keep: Sequence[str] = (),
    with_labels: bool = True,
    with_split: bool = True,
) -> TypedRows:
    """Give each column of ``chunk`` that ``data`` names its role and type.

    ``keep`` are raw columns to carry along. ``with_labels`` reads label and weight,
    ``with_split`` the columns that rows are dealt to splits by.

    Raises:
        DataError: A column is missing or of a type that cannot serve or, unless bad
            rows are skipped, a row has a bad value: file, line and column are named.
    """
    check_columns(chunk, data, keep, with_labels=with_labels, with_split=with_split)
    work = _Typing(chunk, data, RowFaults(chunk, data.bad_rows))
    if with_labels:
        work.add_label()
        work.add_weight()
    work.check_keep_rate()
    if with_split:
        work.add_split_keys()
    for name, dense in data.dense_features.items():
        work.add_dense(name, dense)
    for name, sparse in data.sparse_features.items():
        work.add_sparse(name, sparse)
    for column in keep:
        values = work.raw(column)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        work.typed[f"raw:{column}"] = values
    work.add_origin()
    table = pa.table(work.typed)
    sound, bad = work.faults.finish()
    return TypedRows(table if sound is None else table.filter(pa.array(sound)), bad)


@dataclass(frozen=True, slots=True)
class _Typing:
    chunk: Chunk
    data: DataConfig
    faults: RowFaults
    typed: dict[str, pa.Array] = field(default_factory=dict)

    def raw(self, column: str) -> pa.Array:
        return whole_column(self.chunk.table, column)

    def add_label(self) -> None:
        column = self.data.label
        if self.data.label_kind is not LabelKind.click:
            self._add_classes(column)
            return
        what = f"The label column {column!r} (data.label)"
        labels = parse_numbers(self.raw(column), what).values
        bad = np.flatnonzero((labels != 0) & (labels != 1))
        self._report(column, "0 or 1", bad)
        with np.errstate(over="ignore"):
            self.typed["label"] = pa.array(labels.astype(np.float32))

    def _add_classes(self, column: str) -> None:
        classes, several = parse_classes(
            self.raw(column),
            self.data.label_kind,
            delimiter=self.data.label_delimiter,
            what=f"The label column {column!r} (data.label)",
        )
        self._report(column, "one class, as data.label_kind is multiclass", several)
        self.typed["classes"] = classes

    def add_weight(self) -> None:
        column = self.data.weight_column
        if column is None:
            return
        what = f"The column {column!r} (data.weight_column)"
        weights = parse_numbers(self.raw(column), what).values
        too_large = weights > np.finfo(np.float32).max
        bad = np.flatnonzero(~(weights >= 0) | too_large)
        self._report(column, "a finite weight of at least 0", bad)
        with np.errstate(over="ignore"):
            self.typed["weight"] = pa.array(weights.astype(np.float32))

    def check_keep_rate(self) -> None:
        """Refuse shares outside (0, 1]; the column itself is kept as it came."""
        column = self.data.keep_rate_column
        if column is not None:
            rates = keep_rates(self.raw(column), column)
            self._report(column, "a share in (0, 1] or missing", rates.bad)

    def add_split_keys(self) -> None:
        data = self.data
        if data.split is Split.column and data.split_column is not None:
            column = data.split_column
            names = encode_text(self.raw(column), f"The split column {column!r}")
            found = pc.index_in(names.dictionary, pa.array(SPLITS)).fill_null(-1)
            codes = found.to_numpy()[names.indices.to_numpy()].astype(np.int8)
            bad = np.flatnonzero(codes < 0)
            self._report(column, "train, valid or test (data.split_column)", bad)
            self.typed["split"] = pa.array(codes)
        if data.split not in (Split.time, Split.leave_last):
            return
        if data.time_column is not None:
            column = data.time_column
            what = f"The column {column!r} (data.time_column)"
            times = parse_times(self.raw(column), what)
            self._report(column, "epoch seconds or an ISO 8601 time", times.bad)
            self.typed["time"] = pa.array(times.values)
        if data.split is Split.leave_last and data.group_column is not None:
            column = data.group_column
            what = f"The column {column!r} (data.group_column)"
            self.typed["group"] = encode_text(self.raw(column), what)

    def add_dense(self, name: str, feature: DenseFeature) -> None:
        column = feature.column or name
        numbers = self._numbers(column, f"data.dense_features.{name}")
        if feature.missing is Missing.error:
            bad = np.flatnonzero(np.isnan(numbers.values))
            key = f"data.dense_features.{name}.missing"
            self._report(column, f"present, as {key} is error", bad)
        self.typed[f"dense:{name}"] = pa.array(numbers.values)

    def add_sparse(self, name: str, feature: SparseFeature) -> None:
        column = feature.column or name
        key = f"data.sparse_features.{name}"
        if feature.encoding is Encoding.bucketize:
            numbers = self._numbers(column, key)
            self.typed[f"sparse:{name}"] = pa.array(numbers.values)
        elif feature.multi_hot:
            self._add_bags(name, feature, column)
        else:
            what = f"The column {column!r} ({key})"
            texts = encode_text(self.raw(column), what)
            if feature.encoding is Encoding.identity:
                sound = is_whole_number(texts.dictionary)[texts.indices.to_numpy()]
                self._report(column, "a whole number", np.flatnonzero(~sound))
            self.typed[f"sparse:{name}"] = texts

    def add_origin(self) -> None:
        num_rows = self.chunk.table.num_rows
        zeros = pa.array(np.zeros(num_rows, dtype=np.int32))
        file = pa.array([self.chunk.file])
        self.typed["__file"] = pa.DictionaryArray.from_arrays(zeros, file)
        self.typed["__row"] = pa.array(self.chunk.rows.astype(np.int64))

    def _numbers(self, column: str, key: str) -> Numbers:
        numbers = parse_numbers(self.raw(column), f"The column {column!r} ({key})")
        self._report(column, "a finite number or missing", numbers.bad)
        return numbers

    def _add_bags(self, name: str, feature: SparseFeature, column: str) -> None:
        key = f"data.sparse_features.{name}"
        delimiter = feature.delimiter
        if delimiter is not None:
            delimiter = bag_delimiter(delimiter, key=f"{key}.delimiter")
        weights = feature.weight_column

        def report(rows: np.ndarray, describe: Callable[[int], str]) -> None:
            self.faults.add(
                rows, lambda row: f"column {weights!r} must have {describe(row)}"
            )

        ids = self.raw(column)
        if feature.text is not None:
            ids = cut_words(ids, feature.text, f"The column {column!r} ({key})")
        bags = parse_bags(
            ids,
            None if weights is None else self.raw(weights),
            delimiter=delimiter,
            max_length=feature.max_length,
            what=f"The column {column!r} ({key})",
            report=report,
        )
        if feature.encoding is Encoding.identity:
            texts = bags.ids.values
            sound = is_whole_number(texts.dictionary)[texts.indices.to_numpy()]
            row_of_id = np.repeat(
                np.arange(len(bags.ids)), np.diff(bags.ids.offsets.to_numpy())
            )
            self._report(column, "a bag of whole numbers", row_of_id[~sound])
        self.typed[f"sparse:{name}"] = bags.ids
        if bags.weights is not None:
            self.typed[f"weights:{name}"] = bags.weights

    def _report(self, column: str, requirement: str, rows: np.ndarray) -> None:
        def describe(row: int) -> str:
            value = cell(self.chunk.table[column], row)
            # Numbers that native code parsed have NaN in place of null.
            missing = value is None or value != value
            came = "it is missing" if missing else f"it is {shown(value)}"
            return f"column {column!r} must be {requirement}, but {came}"

        self.faults.add(rows, describe)
