"""Features may share a table where they agree on its rows and width."""

import pytest

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.tables import check_table_widths, check_tables, features_by_table


def test_features_are_grouped_by_table_in_the_order_of_their_first():
    features = {
        "a": SparseFeature(table="t"),
        "b": SparseFeature(),
        "t": SparseFeature(),
    }
    grouped = features_by_table(features)
    assert [(table, list(users)) for table, users in grouped.items()] == [
        ("t", ["a", "t"]),
        ("b", ["b"]),
    ]


def test_features_of_one_table_may_be_pooled_each_in_its_way():
    features = {
        pooling.value: SparseFeature(table="t", multi_hot=True, pooling=pooling)
        for pooling in Pooling
    }
    check_tables({**features, "one": SparseFeature(table="t")})


def test_the_model_s_width_counts_where_a_feature_has_none():
    features = {
        "a": SparseFeature(table="t"),
        "b": SparseFeature(table="t", embedding_dim=8),
    }
    check_table_widths(features, 8)
    with pytest.raises(ConfigError, match=r"b\.embedding_dim must be that of 'a', 16"):
        check_table_widths(features, 16)
