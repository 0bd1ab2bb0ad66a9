"""What is learned from the training rows, put together as a schema."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from dlrm.config.data import DataConfig
from dlrm.config.errors import DataError
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.data.transforms.dense_columns import Moments
from dlrm.data.transforms.quantiles import QuantileSample
from dlrm.data.transforms.vocabulary import LABEL_CLASSES

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
