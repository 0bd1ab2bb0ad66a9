"""From the schema to tables and pooled vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import PoolingType

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.embeddings.features import FeatureEmbeddings, mean_weights
from dlrm.embeddings.local import to_local
from dlrm.embeddings.tables import table_configs
from tests.embeddings.oracle import CPU, bags_of, keyed_bags


def feature(
    name: str,
    *,
    width: int | None = 4,
    table: str | None = None,
    pooling: Pooling = Pooling.sum,
    multi_hot: bool = True,
    weighted: bool = False,
) -> FittedSparse:
    options = SparseFeature(
        embedding_dim=width,
        pooling=pooling,
        multi_hot=multi_hot,
        weight_column="w" if weighted else None,
    )
    return FittedSparse(
        name=name, feature=options, table=table or name, num_embeddings=7
    )


def schema(*features: FittedSparse) -> FeatureSchema:
    return FeatureSchema(name="s", label="y", dense=(), sparse=features)


def local_embeddings(of: FeatureSchema) -> FeatureEmbeddings:
    embeddings = FeatureEmbeddings(of)
    sgd = SparseOptimizer(name=SparseOptimizerName.sgd)
    to_local(embeddings, optimizer=sgd, device=CPU)
    with torch.no_grad():
        for weight in embeddings.state_dict().values():
            weight.copy_(torch.randn(weight.shape))
    return embeddings


def weight_of(embeddings: FeatureEmbeddings, group: str, table: str) -> torch.Tensor:
    key = f"collections.{group}.embedding_bags.{table}.weight"
    return embeddings.state_dict()[key]


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
        (feature("b", table="a", pooling=Pooling.mean), "pooling .* a=sum, b=mean"),
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
    shared = weight_of(embeddings, "pooled", "s")
    own = weight_of(embeddings, "weighted", "b")
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


def test_a_weighted_mean_is_the_weighted_sum_over_the_sum_of_weights():
    embeddings = local_embeddings(
        schema(
            feature("a", weighted=True, pooling=Pooling.mean),
            feature("b", weighted=True),
            feature("c", weighted=True, pooling=Pooling.mean),
        )
    )
    bags = keyed_bags(BAGS, seed=2)
    for vectors, (name, rows) in zip(
        embeddings({"weighted": bags}), bags_of(bags).items(), strict=True
    ):
        weight = weight_of(embeddings, "weighted", name).double().numpy()
        for vector, (ids, factors) in zip(vectors, rows, strict=True):
            terms = [f * weight[i] for i, f in zip(ids, factors, strict=True)]
            expected = np.sum(terms, axis=0) if terms else np.zeros(4)
            if name != "b" and ids:
                expected = expected / sum(factors)
            np.testing.assert_allclose(
                vector.detach().numpy(), expected, rtol=1e-4, atol=1e-5
            )


def test_weights_that_add_up_to_zero_pool_to_zeros_not_nan():
    bags = keyed_bags({"a": [[1, 2], [3]]}, seed=0)
    bags.weights()[:] = torch.tensor([1.0, -1.0, 4.0])
    scaled = mean_weights(bags, ("a",))
    assert scaled.weights().tolist() == [0.0, 0.0, 1.0]
    assert bags.weights().tolist() == [1.0, -1.0, 4.0]


def test_a_weighted_mean_trains_as_its_definition_by_autograd():
    embeddings = local_embeddings(
        schema(feature("a", weighted=True, pooling=Pooling.mean))
    )
    bags = keyed_bags({"a": [[1, 1, 4], [], [4]]}, seed=2)
    weight = weight_of(embeddings, "weighted", "a").clone().requires_grad_()
    w = bags.weights()
    first = (w[0] * weight[1] + w[1] * weight[1] + w[2] * weight[4]) / w[:3].sum()
    factor = torch.randn(3, 4)
    ((first * factor[0]).sum() + (weight[4] * factor[2]).sum()).backward()
    (embeddings({"weighted": bags})[0] * factor).sum().backward()
    expected = weight.detach() - SparseOptimizer().lr * weight.grad
    torch.testing.assert_close(weight_of(embeddings, "weighted", "a"), expected)


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
