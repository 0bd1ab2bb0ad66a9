"""From the schema to tables and pooled vectors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import PoolingType

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.tables import table_configs
from tests.embeddings.oracle import keyed_bags
from tests.embeddings.schemas import feature, local_embeddings, schema, weight_of

BAGS = {
    "a": [[1, 1, 4], [], [0]],
    "b": [[3], [3, 0], []],
    "c": [[], [1, 5], [6]],
}


def test_a_table_serves_all_its_features_in_order_of_first_use():
    configs = table_configs(
        schema(feature("a", table="s"), feature("b"), feature("c", table="s"))
    )["pooled"]
    assert [(c.name, c.feature_names) for c in configs] == [
        ("s", ["a", "c"]),
        ("b", ["b"]),
    ]
    assert configs[0].num_embeddings == 7
    assert configs[0].embedding_dim == 4


def test_the_mean_of_a_one_hot_feature_is_pooled_as_a_sum():
    mean = Pooling.mean
    one = feature("a", pooling=mean, multi_hot=False)
    many = feature("b", pooling=mean)
    configs = table_configs(schema(one, many))["pooled"]
    assert [c.pooling for c in configs] == [PoolingType.SUM, PoolingType.MEAN]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (feature("b", table="a", width=8), "embedding_dim .* a=4, b=8"),
        (feature("b", table="a", weighted=True), "weight_column .* a=None, b=w"),
        (feature("b.c"), r"no dot.*'b\.c'"),
        (feature("b", width=None), "embedding_dim .* b=None"),
    ],
)
def test_features_that_do_not_fit_one_table_are_refused(second, message):
    with pytest.raises(ConfigError, match=message):
        FeatureEmbeddings(schema(feature("a"), second))


def test_collections_start_without_memory():
    embeddings = FeatureEmbeddings(schema(feature("a"), feature("b", weighted=True)))
    assert set(embeddings.collections) == {"pooled", "weighted"}
    assert all(weight.is_meta for weight in embeddings.parameters())


def test_vectors_come_in_schema_order_whatever_the_groups_and_tables():
    embeddings = local_embeddings(
        schema(
            feature("a", table="s"),
            feature("b", width=8, weighted=True),
            feature("c", table="s"),
        )
    )
    weighted = keyed_bags({"b": BAGS["b"]}, seed=3)
    sparse = {
        "pooled": keyed_bags({"a": BAGS["a"], "c": BAGS["c"]}),
        "weighted": weighted,
    }
    vectors = embeddings(sparse)
    assert embeddings.widths == (4, 8, 4)
    assert [v.shape for v in vectors] == [(3, 4), (3, 8), (3, 4)]
    shared, own = weight_of(embeddings, "s"), weight_of(embeddings, "b")
    torch.testing.assert_close(vectors[0][0], 2 * shared[1] + shared[4])
    torch.testing.assert_close(vectors[2][1], shared[1] + shared[5])
    torch.testing.assert_close(vectors[1][0], weighted.weights()[0] * own[3])
    side_by_side = torch.cat(vectors, dim=1)
    assert torch.equal(embeddings.concatenated(sparse), side_by_side)


def test_concatenated_is_in_schema_order_where_a_shared_table_is_not():
    embeddings = local_embeddings(
        schema(feature("a", table="s"), feature("b"), feature("c", table="s"))
    )
    sparse = {"pooled": keyed_bags(BAGS)}
    expected = torch.cat(embeddings(sparse), dim=1)
    assert torch.equal(embeddings.concatenated(sparse), expected)


def test_concatenated_makes_no_copy_where_the_order_is_the_schemas():
    embeddings = local_embeddings(schema(feature("a"), feature("b"), feature("c")))
    sparse = {"pooled": keyed_bags(BAGS)}
    joined = embeddings.concatenated(sparse)
    assert torch.equal(joined, torch.cat(embeddings(sparse), dim=1))
    assert joined._base is None
    assert "Cat" not in type(joined.grad_fn).__name__


def test_the_lookup_can_be_traced_with_collections_as_leaves():
    class LeafCollections(torch.fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return "collections." in name

    embeddings = local_embeddings(
        schema(
            feature("a"),
            feature("b", weighted=True, pooling=Pooling.mean),
            feature("c"),
        )
    )
    graph = LeafCollections().trace(embeddings)
    traced = torch.fx.GraphModule(embeddings, graph)
    sparse = {
        "pooled": keyed_bags({"a": BAGS["a"], "c": BAGS["c"]}),
        "weighted": keyed_bags({"b": BAGS["b"]}, seed=3),
    }
    for got, expected in zip(traced(sparse), embeddings(sparse), strict=True):
        assert torch.equal(got, expected)
