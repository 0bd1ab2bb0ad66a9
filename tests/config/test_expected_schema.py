"""Table sizes that a config alone promises; what nobody knows is refused by name."""

from __future__ import annotations

import pytest

from dlrm.config.data import DataConfig, SourceFormat
from dlrm.config.errors import ConfigError
from dlrm.config.expected_schema import expected_schema
from dlrm.config.features import DenseFeature, Encoding, SparseFeature
from dlrm.config.labels import LabelKind
from dlrm.config.text import TextOptions


def data(**features: SparseFeature) -> DataConfig:
    return DataConfig(
        name="any",
        format=SourceFormat.table,
        dense_features={"price": DenseFeature(missing_indicator=True)},
        sparse_features=features,
    )


def test_every_encoding_has_its_largest_size():
    text = TextOptions(word_ngrams=2, num_buckets=100)
    schema = expected_schema(
        data(
            hashed=SparseFeature(encoding=Encoding.hash, num_embeddings=40),
            number=SparseFeature(encoding=Encoding.identity, num_embeddings=7),
            value=SparseFeature(num_embeddings=50),
            bucket=SparseFeature(encoding=Encoding.bucketize, num_buckets=5),
            bound=SparseFeature(encoding=Encoding.bucketize, boundaries=[1.0, 2.0]),
            words=SparseFeature(num_embeddings=30, multi_hot=True, text=text),
        )
    )
    assert {f.name: f.num_embeddings for f in schema.sparse} == {
        "hashed": 40,
        "number": 7,
        "value": 50,
        # Row 0 is for missing values.
        "bucket": 6,
        "bound": 4,
        "words": 30 + 100,
    }
    assert schema.num_dense == 2


def test_features_of_one_table_share_its_size():
    feature = SparseFeature(encoding=Encoding.hash, num_embeddings=40, table="item")
    schema = expected_schema(data(clicked=feature, shown=feature))
    assert schema.table_rows("item") == 40
    assert [f.table for f in schema.sparse] == ["item", "item"]


def test_tables_that_only_the_data_can_size_are_named():
    features = {"user": SparseFeature(), "item": SparseFeature(num_embeddings=3)}
    with pytest.raises(ConfigError) as caught:
        expected_schema(data(**features, shop=SparseFeature()))
    text = str(caught.value)
    assert "those of user, shop are counted in the data" in text
    assert "data.sparse_features.user.num_embeddings" in text


def test_classes_that_only_the_data_can_count_are_refused():
    config = data(value=SparseFeature(num_embeddings=50))
    config.label_kind = LabelKind.multiclass
    with pytest.raises(ConfigError, match="label_kind=multiclass counts them"):
        expected_schema(config)
