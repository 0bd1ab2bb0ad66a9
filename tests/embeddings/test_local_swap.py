"""Swapping collections: same input, output and state dict, and back to the bit."""

from __future__ import annotations

import pytest
import torch
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from dlrm.config.errors import DataError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.local import to_local, to_plain
from tests.embeddings.oracle import CPU, keyed_bags, plain_model, table

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


@pytest.mark.parametrize("kernel", list(Kernel))
def test_a_trained_table_comes_back_as_trained(kernel):
    model = plain_model(KINDS["shared table"])
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    model.bags(keyed_bags(BAGS)).values().square().sum().backward()
    trained = {k: v.clone() for k, v in model.state_dict().items()}
    to_plain(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], trained[name]) for name in trained)


@pytest.mark.parametrize("kernel", list(Kernel))
def test_tables_are_no_parameters_of_the_dense_optimizer(kernel):
    model = plain_model(KINDS["one table"])
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    assert list(model.parameters()) == []


@pytest.mark.parametrize("kernel", list(Kernel))
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


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize("bad", [7, -1])
def test_an_id_out_of_range_is_named(kernel, bad):
    model = plain_model(KINDS["shared table"])
    to_local(model, optimizer=SGD, device=CPU, kernel=kernel)
    bags = BAGS | {"c": [[], [1, 5], [6, bad]]}
    with pytest.raises(DataError, match="Feature 'c' of table 's'") as caught:
        model.bags(keyed_bags(bags))
    assert f"from 0 to 6, but got {bad} in row 2" in str(caught.value)


@pytest.mark.parametrize("kernel", list(Kernel))
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
