"""The schema that a config alone promises, before any row has been looked at.

Sizes are upper bounds: a vocabulary has at most ``num_embeddings`` rows.
"""

from __future__ import annotations

from dlrm.config.data import DataConfig
from dlrm.config.errors import ConfigError
from dlrm.config.features import Encoding, SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.config.tables import features_by_table


def expected_schema(data: DataConfig) -> FeatureSchema:
    """Return the schema with every table as large as it may become.

    Raises:
        ConfigError: Only the data can tell how many rows a table has, or how many
            classes there are.
    """
    if data.label_kind is not LabelKind.click:
        raise ConfigError(
            f"The number of classes must be known, but data.label_kind="
            f"{data.label_kind.value} counts them in the data, which is not prepared. "
            f"Run dlrm prepare with the same settings first."
        )
    sizes, unknown = {}, []
    for table, features in features_by_table(data.sparse_features).items():
        name, first = next(iter(features.items()))
        size = _num_ids(first)
        if size is None:
            unknown.append(name)
        sizes[table] = size or 0
    if unknown:
        raise ConfigError(
            f"The rows of every table must be known, but those of "
            f"{', '.join(unknown)} are counted in the data, which is not prepared. Run "
            f"dlrm prepare with the same settings first, or set the most that each may "
            f"have: data.sparse_features.{unknown[0]}.num_embeddings=..."
        )
    return FeatureSchema(
        name=data.name,
        label=data.label,
        dense=tuple(
            FittedDense(name=name, feature=feature)
            for name, feature in data.dense_features.items()
        ),
        sparse=tuple(
            FittedSparse(
                name=name,
                feature=feature,
                table=feature.table or name,
                num_embeddings=sizes[feature.table or name],
            )
            for name, feature in data.sparse_features.items()
        ),
    )


def _num_ids(feature: SparseFeature) -> int | None:
    """Return the most ids that a feature's table can have; None where nobody knows."""
    if feature.encoding is Encoding.bucketize:
        bounds = feature.boundaries
        # Row 0 is for missing values.
        return feature.num_buckets + 1 if bounds is None else len(bounds) + 2
    if feature.num_embeddings is None:
        return None
    return feature.num_embeddings + (feature.text.num_buckets if feature.text else 0)
