"""Poolings, padding and compression on the way from a batch to vectors."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import PoolingType

from dlrm.config.errors import ConfigError, DataError
from dlrm.config.features import Pooling
from dlrm.config.table_options import Compression, CompressionMethod, TableOptions
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.tables import table_configs
from tests.embeddings.oracle import keyed_bags
from tests.embeddings.schemas import (
    feature,
    local_embeddings,
    plain_embeddings,
    schema,
    weight_of,
)

BAGS = {
    "a": [[1, 1, 4], [], [0]],
    "b": [[3], [3, 0], []],
    "c": [[], [1, 5], [6]],
}
QUOTIENTS = Compression(method=CompressionMethod.quotient_remainder, divisor=3)


def test_features_of_one_table_may_be_pooled_each_in_its_way():
    of = schema(
        feature("a", table="s", pooling=Pooling.mean),
        feature("b", table="s", pooling=Pooling.sqrtn),
        feature("c", table="s"),
    )
    embeddings = plain_embeddings(of)
    a, b, c = embeddings({"pooled": keyed_bags(BAGS)})
    rows = weight_of(embeddings, "s")
    torch.testing.assert_close(a[0], (2 * rows[1] + rows[4]) / 3)
    torch.testing.assert_close(b[1], (rows[3] + rows[0]) / 2**0.5)
    torch.testing.assert_close(c[1], rows[1] + rows[5])


def test_a_table_with_one_feature_pooled_by_max_is_looked_up_row_by_row_for_all():
    of = schema(feature("a", table="s", pooling=Pooling.max), feature("b", table="s"))
    embeddings = plain_embeddings(of)
    assert set(embeddings.collections) == {"sequence_4"}
    bags = {name: BAGS[name] for name in ("a", "b")}
    a, b = embeddings({"sequence_4": keyed_bags(bags)})
    rows = weight_of(embeddings, "s")
    assert torch.equal(a[0], torch.maximum(rows[1], rows[4]))
    assert a[1].tolist() == [0.0] * 4
    torch.testing.assert_close(b[1], rows[3] + rows[0])


def test_sequence_groups_hold_one_width_each():
    of = schema(
        feature("a", pooling=Pooling.max),
        feature("b", pooling=Pooling.attention, width=8),
        feature("c", pooling=Pooling.max, weighted=True),
    )
    groups = {
        group: [config.name for config in configs]
        for group, configs in table_configs(of).items()
    }
    assert groups == {
        "sequence_4": ["a"],
        "sequence_8": ["b"],
        "weighted_sequence_4": ["c"],
    }


@pytest.mark.parametrize(
    ("options", "pooling"),
    [
        (TableOptions(), PoolingType.MEAN),
        (TableOptions(padding_idx=1), PoolingType.MEAN),
        (TableOptions(compression=QUOTIENTS), PoolingType.SUM),
    ],
)
def test_a_mean_is_the_lookups_own_unless_an_id_has_several_rows(options, pooling):
    of = schema(feature("a", pooling=Pooling.mean), tables={"a": options})
    (config,) = table_configs(of)["pooled"]
    assert config.pooling is pooling
    assert (config.options, config.vocabulary) == (options, "a")


@pytest.mark.parametrize("pooling", Pooling)
@pytest.mark.parametrize("padding_idx", [1, -6])
def test_padding_counts_in_no_pooling_and_is_not_trained(pooling, padding_idx):
    options = TableOptions(padding_idx=padding_idx)
    padded = schema(feature("a", pooling=pooling), tables={"a": options})
    plain = schema(feature("a", pooling=pooling))
    (group,) = padded.groups
    embeddings = local_embeddings(padded, lr=0.1)
    before = weight_of(embeddings, "a").clone()
    (vectors,) = embeddings({group: keyed_bags({"a": [[1, 4, 1, 2], [1], [3]]})})
    (expected,) = local_embeddings(plain)({group: keyed_bags({"a": [[4, 2], [], [3]]})})
    torch.testing.assert_close(vectors, expected)
    vectors.sum().backward()
    changed = (weight_of(embeddings, "a") != before).any(1)
    assert changed.tolist() == [False, False, True, True, True, False, False]


def test_a_padding_id_that_the_table_does_not_have_is_refused():
    of = schema(feature("a"), tables={"a": TableOptions(padding_idx=7)})
    with pytest.raises(ConfigError, match=r"tables\.a\.padding_idx .* -7 to 6.* is 7"):
        FeatureEmbeddings(of)


def test_an_id_beyond_a_compressed_tables_ids_is_refused_not_folded():
    of = schema(feature("a"), tables={"a": TableOptions(compression=QUOTIENTS)})
    with pytest.raises(DataError, match=r"'a' .* 0 to 6, but got 7 in row 1"):
        plain_embeddings(of)({"pooled": keyed_bags({"a": [[6, 1], [7], []]})})


def test_ids_are_quotients_and_remainders_of_one_table():
    of = schema(feature("a"), tables={"a": TableOptions(compression=QUOTIENTS)})
    embeddings = plain_embeddings(of)
    (vectors,) = embeddings({"pooled": keyed_bags({"a": [[5], [6]]})})
    rows = weight_of(embeddings, "a")
    # Seven ids by three: quotients 0 to 2 in rows 0 to 2, remainders behind them.
    assert len(rows) == 6
    torch.testing.assert_close(vectors[0], rows[1] + rows[3 + 2])
    torch.testing.assert_close(vectors[1], rows[2] + rows[3 + 0])


def test_derived_tables_read_the_batch_in_the_groups_of_the_data():
    data = schema(
        feature("a", pooling=Pooling.max),
        feature("b", pooling=Pooling.sqrtn),
        feature("c", pooling=Pooling.attention, width=8),
    )
    linear = FeatureEmbeddings(
        data.derived("linear", embedding_dim=1), batch_groups=data.groups
    )
    assert linear.widths == (1, 1, 1)
    assert set(linear.collections) == {"pooled"}
    linear.to_empty(device="cpu")
    for weight in linear.parameters():
        nn.init.normal_(weight)
    batch = {
        "sequence_4": keyed_bags({"a": BAGS["a"]}),
        "pooled": keyed_bags({"b": BAGS["b"]}),
        "sequence_8": keyed_bags({"c": BAGS["c"]}),
    }
    a, b, c = linear(batch)
    rows = {name: weight_of(linear, f"{name}/linear") for name in "abc"}
    torch.testing.assert_close(a[0], (2 * rows["a"][1] + rows["a"][4]) / 3)
    torch.testing.assert_close(b[1], (rows["b"][3] + rows["b"][0]) / 2**0.5)
    torch.testing.assert_close(c[1], (rows["c"][1] + rows["c"][5]) / 2)


def test_every_path_can_be_traced_with_collections_as_leaves():
    class LeafCollections(torch.fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return "collections." in name

    of = schema(
        feature("a"),
        feature("b", pooling=Pooling.sqrtn),
        feature("c", pooling=Pooling.attention),
        feature("d", pooling=Pooling.max, weighted=True),
        tables={
            "b": TableOptions(padding_idx=0),
            "c": TableOptions(compression=QUOTIENTS),
        },
    )
    embeddings = plain_embeddings(of)
    nn.init.normal_(embeddings.queries["c"].query)
    traced = torch.fx.GraphModule(embeddings, LeafCollections().trace(embeddings))
    batch = {
        "pooled": keyed_bags({"a": BAGS["a"], "b": BAGS["b"]}),
        "sequence_4": keyed_bags({"c": BAGS["c"]}),
        "weighted_sequence_4": keyed_bags({"d": BAGS["c"]}, seed=1),
    }
    for got, expected in zip(traced(batch), embeddings(batch), strict=True):
        assert torch.equal(got, expected)


def test_a_plain_group_reaches_its_collection_as_the_very_object_of_the_batch():
    seen = []
    embeddings = plain_embeddings(schema(feature("a"), feature("b", weighted=True)))
    for collection in embeddings.collections.values():
        collection.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = {
        "pooled": keyed_bags({"a": BAGS["a"]}),
        "weighted": keyed_bags({"b": BAGS["b"]}, seed=0),
    }
    embeddings(batch)
    assert [bags is batch[group] for bags, group in zip(seen, batch, strict=True)] == [
        True,
        True,
    ]
