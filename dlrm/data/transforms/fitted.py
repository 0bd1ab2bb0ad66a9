"""Apply fitted transforms: typed rows -> numbers.

Shape suffixes: R = rows, N = dense columns, F = features of one kind, V = ids in all
bags together. A line is a column of the rows, whose values lie together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dlrm.config.errors import DataError
from dlrm.config.features import Encoding
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.data.columns.row_faults import place
from dlrm.data.columns.whole_column import whole_column
from dlrm.data.storage.layout import INT, RecordLayout
from dlrm.data.storage.rows import EncodedRows, starts_of
from dlrm.data.transforms.dense_columns import write_dense_columns
from dlrm.data.transforms.id_encoder import REFUSED, IdEncoder, Lookup
from dlrm.data.transforms.quantiles import bucket_rows
from dlrm.data.transforms.text_ids import text_ids
from dlrm.data.transforms.vocabulary import LABEL_CLASSES, Vocabulary

Observer = Callable[[str, np.ndarray, np.ndarray | None], None]
"""Takes a feature's name, bool [V] of ids outside the vocabulary or the table, and the
length of each row's bag, None where each row has one id."""


class FittedTransforms:
    """What ``prepare`` fitted, ready to be applied to any typed rows."""

    def __init__(
        self,
        schema: FeatureSchema,
        vocabularies: dict[str, Vocabulary],
        known: Mapping[str, Lookup] | None = None,
    ) -> None:
        """Take ``vocabularies`` by table; that of classes is ``LABEL_CLASSES``.

        ``known`` are what stands for them, by feature, where values have been looked
        up already.
        """
        self.schema = schema
        self.vocabularies = vocabularies
        by_feature: dict[str, Lookup | None] = {
            fitted.name: vocabularies.get(fitted.table) for fitted in schema.sparse
        }
        by_feature.update(known or {})
        self._encoders = {
            fitted.name: IdEncoder(fitted, by_feature[fitted.name])
            for fitted in schema.sparse
        }
        self._classes_known = by_feature.get(LABEL_CLASSES) or vocabularies.get(
            LABEL_CLASSES
        )

    @classmethod
    def load(cls, folder: Path) -> FittedTransforms:
        """Read the schema and vocabularies of a dataset or run folder.

        Raises:
            DatasetError: A file is missing, damaged or does not fit the others.
        """
        schema = FeatureSchema.load(folder)
        vocabularies = {
            table: Vocabulary.load(folder, table, features[0].num_known)
            for table, features in schema.tables.items()
            if features[0].feature.encoding is Encoding.vocabulary
        }
        if schema.num_label_bags:
            size = schema.num_classes + 1
            vocabularies[LABEL_CLASSES] = Vocabulary.load(folder, LABEL_CLASSES, size)
        return cls(schema, vocabularies)

    def save(self, folder: Path) -> None:
        """Write ``schema.json`` and ``vocabularies/``."""
        self.schema.save(folder)
        for table, vocabulary in self.vocabularies.items():
            vocabulary.save(folder, table)

    def encode(self, typed: pa.Table, observe: Observer | None = None) -> EncodedRows:
        """Transform typed rows; ``observe``, where given, is told about their ids.

        Labels are 0 and weights 1 where ``typed`` has no such columns. Classes are a
        last bag: their ids count from 0, and -1 is a class that training never saw.

        Raises:
            DataError: An id is outside its table and the policy is ``error``, or a
                dense value is too large for float32.
        """
        return self.encode_columns(typed, observe).rows

    def encode_columns(
        self, typed: pa.Table, observe: Observer | None = None
    ) -> EncodedColumns:
        """Do what ``encode`` does; the result shows the rows as columns, too."""
        layout = RecordLayout.of(self.schema)
        columns = np.empty((layout.num_words, typed.num_rows), dtype=INT)
        bags = [self._bag(fitted, typed, observe) for fitted in self.schema.multi_hot]
        if self.schema.num_label_bags:
            bags.append(self._classes(typed))
        first_bag = layout.num_words - layout.num_multi_hot
        values, weights = _interleave(bags, columns[first_bag:])
        rows = layout.unpack(columns.T, values, weights if layout.weighted else None)
        _fill(rows.labels, typed, "label", 0)
        _fill(rows.weights, typed, "weight", 1)
        self._dense(typed, rows.dense.T)
        self._one_hot(typed, rows.one_hot.T, observe)
        return EncodedColumns(columns, rows)

    def _dense(self, typed: pa.Table, lines_NR: np.ndarray) -> None:
        start = 0
        for fitted in self.schema.dense:
            own = lines_NR[start : start + fitted.num_columns]
            values = whole_column(typed, f"dense:{fitted.name}").to_numpy()
            write_dense_columns(values, fitted, own)
            if not np.isfinite(own[0]).all():
                row = int(np.flatnonzero(~np.isfinite(own[0]))[0])
                key = f"data.dense_features.{fitted.name}"
                raise DataError(
                    f"{_place(typed, row)}: dense feature {fitted.name!r} must fit "
                    f"float32, but it is {values[row]}. Set {key}.clip_min and "
                    f"{key}.clip_max."
                )
            start += fitted.num_columns

    def _one_hot(
        self, typed: pa.Table, lines_FR: np.ndarray, observe: Observer | None
    ) -> None:
        for fitted, line_R in zip(self.schema.one_hot, lines_FR, strict=True):
            column = whole_column(typed, f"sparse:{fitted.name}")
            if fitted.feature.encoding is Encoding.bucketize:
                line_R[:] = bucket_rows(column.to_numpy(), fitted.boundaries)
            else:
                self._rows(fitted, column, None, typed, observe, out=line_R)

    def _bag(
        self, fitted: FittedSparse, typed: pa.Table, observe: Observer | None
    ) -> _Bags:
        column = whole_column(typed, f"sparse:{fitted.name}")
        texts, lengths = flat_texts(column)
        assert lengths is not None
        values = np.empty(len(texts), dtype=INT)
        self._rows(fitted, texts, lengths, typed, observe, out=values)
        if fitted.feature.text is not None:
            values, lengths = text_ids(fitted, texts, values, lengths)
        weights = np.ones(values.size, dtype=np.float32)
        if fitted.weighted:
            weights = whole_column(typed, f"weights:{fitted.name}").flatten()
            weights = weights.to_numpy()
        return _Bags(lengths, values, weights)

    def _classes(self, typed: pa.Table) -> _Bags:
        if "classes" not in typed.column_names:
            zeros = np.zeros(typed.num_rows, dtype=np.int32)
            return _Bags(zeros, zeros[:0], zeros[:0].astype(np.float32))
        texts, lengths = flat_texts(whole_column(typed, "classes"))
        assert lengths is not None
        assert self._classes_known is not None
        ids = self._classes_known.rows_of(texts.dictionary) - 1
        values = ids[texts.indices.to_numpy()].astype(np.int32)
        return _Bags(lengths, values, np.ones(values.size, dtype=np.float32))

    def _rows(
        self,
        fitted: FittedSparse,
        texts: pa.DictionaryArray,
        lengths: np.ndarray | None,
        typed: pa.Table,
        observe: Observer | None,
        *,
        out: np.ndarray,
    ) -> None:
        encoder = self._encoders[fitted.name]
        encoded = encoder.encode(texts.dictionary)
        codes = texts.indices.to_numpy()
        assert encoded.rows.dtype == out.dtype, "ids are never cut"
        if codes.size:
            # "clip" writes straight into out; "raise" goes through another array.
            np.take(encoded.rows, codes, out=out, mode="clip")
        if (encoded.rows == REFUSED).any() and (out == REFUSED).any():
            first = int(np.flatnonzero(out == REFUSED)[0])
            row = first
            if lengths is not None:
                row = int(np.searchsorted(np.cumsum(lengths), first, side="right"))
            text = texts.dictionary[int(codes[first])].as_py()
            raise DataError(encoder.refusal(text, _place(typed, row)))
        if observe is not None:
            is_outside = np.zeros(codes.size, dtype=bool)
            if encoded.is_outside.any():
                is_outside = encoded.is_outside.take(codes)
            observe(fitted.name, is_outside, lengths)


@dataclass(frozen=True, slots=True)
class EncodedColumns:
    """Some rows, and their records column by column: what lies together is written.

    W are the words of a record.
    """

    columns: np.ndarray
    """int32 [W, R]"""
    rows: EncodedRows
    """Views of ``columns``."""


def _fill(out: np.ndarray, typed: pa.Table, name: str, default: float) -> None:
    if name in typed.column_names:
        out[:] = whole_column(typed, name).to_numpy()
    else:
        out.fill(default)


def flat_texts(
    column: pa.Array,
) -> tuple[pa.DictionaryArray, np.ndarray | None]:
    """Return a typed column's texts, and the length of each row's bag or None."""
    if not isinstance(column, pa.ListArray):
        return column, None
    lengths = np.diff(column.offsets.to_numpy()).astype(np.int32)
    return column.flatten(), lengths


@dataclass(frozen=True, slots=True)
class _Bags:
    lengths: np.ndarray
    """int32 [R]"""
    values: np.ndarray
    """int32, the bags of one feature one after the other"""
    weights: np.ndarray
    """float32, one a value"""


def _interleave(
    bags: list[_Bags], lengths_FR: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put bags in row-major order: values and weights [V]; write their lengths."""
    for line_R, bag in zip(lengths_FR, bags, strict=True):
        line_R[:] = bag.lengths
    if len(bags) == 1:
        return bags[0].values, bags[0].weights
    starts = starts_of(lengths_FR.T.reshape(-1))
    values = np.empty(int(starts[-1]), dtype=np.int32)
    weights = np.empty(int(starts[-1]), dtype=np.float32)
    for index, bag in enumerate(bags):
        own_starts = starts_of(bag.lengths)[:-1]
        shift = starts[index : -1 : len(bags)] - own_starts
        places = np.repeat(shift, bag.lengths) + np.arange(bag.values.size)
        values[places], weights[places] = bag.values, bag.weights
    return values, weights


def _place(typed: pa.Table, row: int) -> str:
    return place(typed["__file"][row].as_py(), typed["__row"][row].as_py())
