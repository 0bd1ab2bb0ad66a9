"""What the transforms learn from the training rows, in one streaming pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.errors import DataError
from dlrm.config.features import DenseFeature, Encoding, SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.config.tables import features_by_table
from dlrm.data.transforms.dense_columns import Moments, before_standardizing
from dlrm.data.transforms.fitted import FittedTransforms, flat_texts
from dlrm.data.transforms.quantiles import QuantileSample
from dlrm.data.transforms.vocabulary import LABEL_CLASSES, ValueCounter, Vocabulary

MAX_LISTED_VALUES = 1_000
"""One-hot features with at most this many values are kept beside the rows."""


class DistinctValues:
    """The distinct texts of a feature, counted up to ``MAX_LISTED_VALUES``."""

    def __init__(self) -> None:
        """Start with none."""
        self._texts: set[str] = set()

    @property
    def count(self) -> int | None:
        """How many, None where more than ``MAX_LISTED_VALUES``."""
        size = len(self._texts)
        return size if size <= MAX_LISTED_VALUES else None

    def add(self, texts: pa.DictionaryArray, is_counted: np.ndarray) -> None:
        """Take in the texts that are counted."""
        if self.count is None:
            return
        used = np.unique(texts.indices.to_numpy()[is_counted])
        some = used[: 2 * MAX_LISTED_VALUES + 2]
        self._texts.update(texts.dictionary.take(pa.array(some)).to_pylist())


class TransformFitter:
    """Fits dense statistics, bucket boundaries and vocabularies."""

    def __init__(self, data: DataConfig) -> None:
        """Start with nothing seen."""
        self._data = data
        self._tables = features_by_table(data.sparse_features)
        self._moments = {name: Moments() for name in data.dense_features}
        self._counters: dict[str, ValueCounter] = {}
        self._samples: dict[str, QuantileSample] = {}
        self._distinct: dict[str, DistinctValues] = {}
        self._classes = ValueCounter()
        for name, feature in data.sparse_features.items():
            table = feature.table or name
            if feature.encoding is Encoding.bucketize:
                self._samples.setdefault(table, QuantileSample())
            else:
                self._distinct[name] = DistinctValues()
            if feature.encoding is Encoding.vocabulary:
                self._counters.setdefault(table, ValueCounter())

    def add(self, typed: pa.Table, is_train: np.ndarray) -> None:
        """Learn from the rows of a chunk where ``is_train``, and from no others."""
        if not is_train.any():
            return
        for name, dense in self._data.dense_features.items():
            values = typed[f"dense:{name}"].to_numpy()[is_train]
            self._moments[name].add(before_standardizing(values, dense))
        for name, sparse in self._data.sparse_features.items():
            self._add_sparse(name, sparse, typed, is_train)
        if "classes" in typed.column_names:
            texts, lengths = flat_texts(typed["classes"].combine_chunks())
            assert lengths is not None
            self._classes.add(texts, np.repeat(is_train, lengths))

    def num_values(self) -> dict[str, int | None]:
        """Count each sparse feature's distinct training values.

        None where there are more than ``MAX_LISTED_VALUES`` and nothing counts them, as
        with hashes; bucketized features are left out.
        """
        found = {name: distinct.count for name, distinct in self._distinct.items()}
        for table, counter in self._counters.items():
            if len(self._tables[table]) == 1:
                (name,) = self._tables[table]
                found[name] = counter.finish().num_rows
        return found

    def finish(self) -> FittedTransforms:
        """Return the fitted transforms.

        Raises:
            DataError: A dense feature's statistics are not finite, or classes are
                fewer than two.
        """
        data = self._data
        dense = [
            fit_dense(self._moments[name], name, feature)
            for name, feature in data.dense_features.items()
        ]
        vocabularies = {
            table: Vocabulary.fit(
                counter.finish(),
                min_frequency=_first(self._tables[table]).min_frequency,
                num_embeddings=_first(self._tables[table]).num_embeddings,
            )
            for table, counter in self._counters.items()
        }
        if data.label_kind is not LabelKind.click:
            vocabularies[LABEL_CLASSES] = Vocabulary.fit(
                self._classes.finish(), min_frequency=1, num_embeddings=None
            )
        schema = fitted_schema(
            data,
            dense=dense,
            num_known={t: len(found.keys) for t, found in vocabularies.items()},
            boundaries={
                table: fit_boundaries(_first(self._tables[table]), sample)
                for table, sample in self._samples.items()
            },
        )
        return FittedTransforms(schema, vocabularies)

    def _add_sparse(
        self, name: str, feature: SparseFeature, typed: pa.Table, is_train: np.ndarray
    ) -> None:
        column = typed[f"sparse:{name}"].combine_chunks()
        table = feature.table or name
        if feature.encoding is Encoding.bucketize:
            self._samples[table].add(column.to_numpy()[is_train])
            return
        texts, lengths = flat_texts(column)
        is_counted = is_train if lengths is None else np.repeat(is_train, lengths)
        self._distinct[name].add(texts, is_counted)
        if table in self._counters:
            self._counters[table].add(texts, is_counted)


def _first(sharing: dict[str, SparseFeature]) -> SparseFeature:
    return next(iter(sharing.values()))


def fitted_schema(
    data: DataConfig,
    *,
    dense: Sequence[FittedDense],
    num_known: Mapping[str, int],
    boundaries: Mapping[str, tuple[float, ...]],
) -> FeatureSchema:
    """Put together what was fitted; ``num_known`` and ``boundaries`` are by table.

    Raises:
        DataError: Classes are fewer than two.
    """
    num_classes = 0
    if data.label_kind is not LabelKind.click:
        num_classes = num_known[LABEL_CLASSES]
        _refuse_few_classes(data, num_classes)
    return FeatureSchema(
        name=data.name,
        label=data.label,
        dense=tuple(dense),
        sparse=tuple(
            _fitted_sparse(name, feature, num_known, boundaries)
            for name, feature in data.sparse_features.items()
        ),
        label_kind=data.label_kind,
        num_classes=num_classes,
    )


def fit_dense(moments: Moments, name: str, feature: DenseFeature) -> FittedDense:
    """Return a dense feature's statistics.

    Raises:
        DataError: They are not finite.
    """
    fitted = moments.fit(name, feature)
    if math.isfinite(fitted.mean) and math.isfinite(fitted.std):
        return fitted
    key = f"data.dense_features.{fitted.name}"
    raise DataError(
        f"Dense feature {fitted.name!r} must have a finite mean and standard deviation "
        f"over the training rows, but they are {fitted.mean} and {fitted.std}. Set "
        f"{key}.clip_min and {key}.clip_max, or {key}.log1p=true."
    )


def _refuse_few_classes(data: DataConfig, num_classes: int) -> None:
    if num_classes < 2:
        raise DataError(
            f"The training rows must have two classes or more, but column "
            f"{data.label!r} (data.label) has {num_classes}. Check data.label, or "
            f"split the rows another way."
        )


def fit_boundaries(feature: SparseFeature, sample: QuantileSample) -> tuple[float, ...]:
    """Return a feature's bucket boundaries: those given, or the sample's."""
    if feature.boundaries is not None:
        return tuple(feature.boundaries)
    return sample.boundaries(feature.num_buckets)


def _fitted_sparse(
    name: str,
    feature: SparseFeature,
    num_known: Mapping[str, int],
    boundaries: Mapping[str, tuple[float, ...]],
) -> FittedSparse:
    table = feature.table or name
    size = feature.num_embeddings or 0
    if table in num_known:
        size = num_known[table] + 1
        size += feature.text.num_buckets if feature.text else 0
    elif table in boundaries:
        size = len(boundaries[table]) + 2
    return FittedSparse(
        name=name,
        feature=feature,
        table=table,
        num_embeddings=size,
        boundaries=boundaries.get(table, ()),
    )
