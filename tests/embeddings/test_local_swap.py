"""Swapping collections: same input, output and state dict, and back to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import (
    DataType,
    EmbeddingBagConfig,
    EmbeddingConfig,
)
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.errors import ConfigError, DataError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.table_options import (
    Gradient,
    TableDtype,
    TableOptimizer,
    TableOptions,
)
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.local import to_local, to_plain
from dlrm.embeddings.state import table_states
from tests.embeddings.oracle import (
    CPU,
    KERNELS,
    keyed_bags,
    plain_model,
    row_table,
    table,
)
from tests.embeddings.oracle_run import vectors_of

SGD = SparseOptimizer(name=SparseOptimizerName.sgd)
BAGS = {
    "a": [[1, 1, 4], [], [0]],
    "b": [[3], [3, 0], []],
    "c": [[], [1, 5], [6]],
}
KINDS = {
    "one table": [table("t", 7, 4, ["a"])],
    "shared table": [table("s", 7, 4, ["a", "c"]), table("o", 4, 4, ["b"])],
    "mixed widths": [
        table("t", 7, 4, ["a"]),
        table("u", 4, 8, ["b"]),
        table("v", 7, 16, ["c"]),
    ],
    "odd widths": [table("t", 7, 3, ["a", "c"]), table("u", 4, 5, ["b"])],
    "fours and odd": [table("t", 7, 3, ["a"]), table("u", 4, 8, ["b"])],
    "mixed pooling": [
        table("t", 7, 4, ["a"]),
        table("u", 4, 4, ["b"], "mean"),
        table("v", 7, 4, ["c"]),
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("kernel", [None, Kernel.torch])
def test_a_swap_keeps_values_and_names_and_its_inverse_is_exact(
    kind, is_weighted, kernel
):
    if is_weighted and kind == "mixed pooling":
        tables = KINDS["shared table"]
    else:
        tables = KINDS[kind]
    model = plain_model(tables, is_weighted=is_weighted)
    bags = keyed_bags(BAGS, seed=1 if is_weighted else None)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    expected = model.bags(bags)
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    got = model.bags(bags)
    assert got.keys() == expected.keys()
    assert got.length_per_key() == expected.length_per_key()
    torch.testing.assert_close(got.values(), expected.values())
    assert model.state_dict().keys() == before.keys()
    to_plain(model)
    assert type(model.bags) is EmbeddingBagCollection
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(model.bags(bags).values(), expected.values())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_trained_table_comes_back_as_trained(kernel):
    model = plain_model(KINDS["shared table"])
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    model.bags(keyed_bags(BAGS)).values().square().sum().backward()
    trained = {k: v.clone() for k, v in model.state_dict().items()}
    to_plain(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], trained[name]) for name in trained)


@pytest.mark.parametrize("kernel", KERNELS)
def test_tables_are_no_parameters_of_the_dense_optimizer(kernel):
    model = plain_model(KINDS["one table"])
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    assert list(model.parameters()) == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_load_state_dict_writes_into_the_tables(kernel):
    model = plain_model(KINDS["mixed widths"])
    other = plain_model(KINDS["mixed widths"], seed=9)
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    model.load_state_dict(other.state_dict())
    expected = other.bags(keyed_bags(BAGS)).values()
    torch.testing.assert_close(model.bags(keyed_bags(BAGS)).values(), expected)


def test_features_are_found_by_name_whatever_the_order_of_the_input():
    model = plain_model(KINDS["shared table"])
    to_local(model, optimizer=SGD, device=CPU)
    expected = model.bags(keyed_bags(BAGS)).to_dict()
    reordered = {"unused": [[0], [0], [0]]} | {key: BAGS[key] for key in "cba"}
    got = model.bags(keyed_bags(reordered)).to_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_moving_or_casting_the_tables_is_refused_and_staying_is_not():
    model = plain_model(KINDS["one table"])
    to_local(model, optimizer=SGD, device=CPU)
    model.to(CPU)
    with pytest.raises(RuntimeError, match=r"stay on cpu as torch\.float32"):
        model.half()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [7, -1])
def test_an_id_out_of_range_is_named(kernel, bad):
    model = plain_model(KINDS["shared table"])
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    bags = BAGS | {"c": [[], [1, 5], [6, bad]]}
    with pytest.raises(DataError, match="Feature 'c' of table 's'") as caught:
        model.bags(keyed_bags(bags))
    assert f"from 0 to 6, but got {bad} in row 2" in str(caught.value)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_one_hot_id_out_of_range_is_named(kernel):
    model = plain_model(KINDS["shared table"])
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    bags = {"a": [[1], [0]], "b": [[1], [4]], "c": [[1], [6]]}
    with pytest.raises(DataError, match="'b' of table 'o' .* got 4 in row 1"):
        model.bags(keyed_bags(bags))


def test_training_repeats_to_the_bit():
    def train() -> torch.Tensor:
        model = plain_model(KINDS["shared table"])
        adam = SparseOptimizer(name=SparseOptimizerName.adam)
        to_local(model, optimizer=adam, device=CPU)
        for _ in range(3):
            model.bags(keyed_bags(BAGS)).values().square().sum().backward()
        return model.state_dict()["bags.embedding_bags.s.weight"]

    assert torch.equal(train(), train())


OPTIONS = {
    "float16": TableOptions(dtype=TableDtype.float16),
    "bfloat16": TableOptions(dtype=TableDtype.bfloat16),
    "all": TableOptions(
        padding_idx=1,
        max_norm=1.0,
        scale_grad_by_freq=True,
        gradient=Gradient.dense,
        dtype=TableDtype.bfloat16,
        optimizer=TableOptimizer(name=SparseOptimizerName.adam),
        admit_after=1,
    ),
    "frozen": TableOptions(frozen=True),
    "plain": TableOptions(),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("make", [table, row_table])
def test_a_trained_table_of_any_options_goes_there_and_back_to_the_bit(option, make):
    options = OPTIONS[option]
    tables = [
        make("s", 7, 4, ["a", "c"], options=options),
        make("o", 4, 4, ["b"]),
    ]
    model = plain_model(tables)
    kind, names = type(model.bags), set(model.state_dict())
    to_local(model, optimizer=SGD, device=CPU)
    vectors = vectors_of(model, keyed_bags(BAGS))
    sum(part.square().sum() for part in vectors.values()).backward()
    trained = {k: v.clone() for k, v in model.state_dict().items()}
    assert set(trained) == names
    to_plain(model)
    assert type(model.bags) is kind
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    plain = model.state_dict()
    to_local(model, optimizer=SGD, device=CPU)
    for after in (plain, model.state_dict()):
        assert {name: t.dtype for name, t in after.items()} == {
            name: t.dtype for name, t in trained.items()
        }
        assert all(torch.equal(after[name], trained[name]) for name in trained)


@pytest.mark.parametrize("dtype", [TableDtype.float16, TableDtype.bfloat16])
@pytest.mark.parametrize("make", [table, row_table])
def test_a_plain_collection_in_16_bits_gives_the_local_vectors(dtype, make):
    options = TableOptions(dtype=dtype)
    model = plain_model([make("t", 7, 4, ["a"], options=options)])
    to_local(model, optimizer=SGD, device=CPU)
    bags = keyed_bags({"a": [[1], [0], [6]]})
    expected = vectors_of(model, bags)["a"].detach()
    to_plain(model)
    assert torch.equal(vectors_of(model, bags)["a"], expected)


@pytest.mark.parametrize("kernel", [None, Kernel.torch])
def test_rows_one_by_one_are_those_of_torchrec_in_values_and_names(kernel):
    tables = [row_table("s", 7, 4, ["a", "c"]), row_table("o", 4, 4, ["b"])]
    model = plain_model(tables)
    assert type(model.bags) is EmbeddingCollection
    bags = keyed_bags(BAGS)
    expected, names = model.bags(bags), set(model.state_dict())
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    got = model.bags(bags)
    assert names == set(model.state_dict())
    assert list(got) == list(expected)
    for name, jagged in expected.items():
        assert torch.equal(got[name].values(), jagged.values())
        assert torch.equal(got[name].lengths(), jagged.lengths())
        assert got[name].weights_or_none() is None


def test_ids_come_with_the_rows_where_torchrec_was_asked_for_them():
    model = nn.Module()
    configs = [row_table("s", 7, 4, ["a"]), row_table("o", 4, 4, ["b", "c"])]
    model.bags = EmbeddingCollection(tables=configs, device=CPU, need_indices=True)
    bags = keyed_bags({"a": [[6]], "b": [[1, 1]], "c": [[3]]})
    expected = model.bags(bags)
    to_local(model, optimizer=SGD, device=CPU)
    got = model.bags(bags)
    assert all(torch.equal(got[k].weights(), expected[k].weights()) for k in expected)
    to_plain(model)
    assert model.bags.need_indices()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bad", [7, -1])
def test_an_id_out_of_range_is_named_by_rows_one_by_one_too(kernel, bad):
    tables = [row_table("s", 7, 4, ["a", "c"]), row_table("o", 4, 4, ["b"])]
    model = plain_model(tables)
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    bags = keyed_bags(BAGS | {"c": [[], [1, 5], [6, bad]]})
    with pytest.raises(DataError, match="Feature 'c' of table 's'") as caught:
        model.bags(bags)
    assert f"from 0 to 6, but got {bad} in row 2" in str(caught.value)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_id_out_of_range_is_named_whatever_the_options(option):
    tables = [table("s", 7, 4, ["a", "c"], options=OPTIONS[option])]
    model = plain_model(tables)
    to_local(model, optimizer=SGD, device=CPU)
    with pytest.raises(DataError, match="Feature 'c' of table 's' .* got 7 in row 1"):
        model.bags(keyed_bags({"a": [[0], [1]], "c": [[1], [2, 7]]}))


@pytest.mark.parametrize("make", [table, row_table])
def test_a_model_for_evaluation_has_the_vectors_and_no_state(make):
    adam = SparseOptimizer(name=SparseOptimizerName.adam)
    tables = [
        make("s", 7, 4, ["a", "c"], options=OPTIONS["all"]),
        make("o", 4, 4, ["b"]),
    ]
    trained, evaluated = plain_model(tables), plain_model(tables)
    to_local(trained, optimizer=adam, device=CPU)
    to_local(evaluated, optimizer=adam, device=CPU, trainable=False)
    for state in table_states(evaluated).values():
        assert set(state.optimizer) <= {"uses"}
    expected = vectors_of(trained.eval(), keyed_bags(BAGS))
    got = vectors_of(evaluated, keyed_bags(BAGS))
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert not any(part.requires_grad for part in got.values())


@pytest.mark.parametrize("collection", [EmbeddingBagCollection, EmbeddingCollection])
def test_a_type_that_cannot_be_trained_is_refused_by_name(collection):
    bagged = collection is EmbeddingBagCollection
    config = (EmbeddingBagConfig if bagged else EmbeddingConfig)(
        name="t",
        num_embeddings=3,
        embedding_dim=4,
        feature_names=["a"],
        data_type=DataType.INT8,
    )
    model = nn.Module()
    model.bags = collection(tables=[config], device=torch.device("meta"))
    with pytest.raises(ConfigError, match="Table 't' .* data_type is INT8"):
        to_local(model, optimizer=SGD, device=CPU)


def test_a_feature_of_two_tables_is_refused_by_name():
    model = plain_model([table("t", 7, 4, ["a"]), table("u", 7, 4, ["a"])])
    with pytest.raises(ConfigError, match="Feature 'a' .* both 't' and 'u' list it"):
        to_local(model, optimizer=SGD, device=CPU)


def test_weights_have_a_gradient_where_a_collection_has_several_kernels():
    # Widths of 4 are fbgemm's, the width of 3 is torch's: each sees its features alone.
    tables = [
        EmbeddingBagConfig(
            name=name, num_embeddings=5, embedding_dim=dim, feature_names=[name]
        )
        for name, dim in (("a", 4), ("b", 3), ("c", 4))
    ]
    model = nn.Module()
    model.bags = EmbeddingBagCollection(tables=tables, is_weighted=True)
    weights = torch.tensor([0.5, 2.0, -1.0, 3.0], requires_grad=True)
    features = KeyedJaggedTensor(
        keys=["a", "b", "c"],
        values=torch.tensor([1, 2, 4, 0]),
        lengths=torch.tensor([1, 0, 1, 1, 0, 1]),
        weights=weights,
    )
    rows = model.bags.state_dict()
    expected = [
        rows[f"embedding_bags.{name}.weight"][row].sum().item()
        for name, row in (("a", 1), ("b", 2), ("b", 4), ("c", 0))
    ]
    to_local(model, optimizer=SparseOptimizer(), device=CPU)
    model.bags(features).values().sum().backward()
    assert weights.grad is not None
    assert weights.grad.tolist() == pytest.approx(expected, rel=1e-5)
