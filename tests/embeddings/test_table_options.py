"""Every option of a table, with every optimizer, against float64 loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.table_options import (
    Gradient,
    TableDtype,
    TableOptimizer,
    TableOptions,
)
from dlrm.embeddings.kernel_options import kernel_options
from dlrm.embeddings.kernels import Kernel, choose_kernel
from dlrm.embeddings.local import to_local
from dlrm.embeddings.state import set_sparse_rate_factor, table_states
from tests.embeddings.oracle import (
    CPU,
    FUSED,
    KERNELS,
    keyed_bags,
    plain_model,
    row_table,
    table,
)
from tests.embeddings.oracle_run import KINDS, ONE_HOT, RAGGED, run_against_oracle

NAMES = SparseOptimizerName
EMPTY = {"a": [[], []], "b": [[], []], "c": [[], []]}
SINGLE = {
    "max_norm": TableOptions(max_norm=0.9),
    "max_norm 1": TableOptions(max_norm=1.5, norm_type=1.0),
    "max_norm inf": TableOptions(max_norm=0.5, norm_type=float("inf")),
    "scale_grad_by_freq": TableOptions(scale_grad_by_freq=True),
    "dense": TableOptions(gradient=Gradient.dense),
    "padding": TableOptions(padding_idx=1),
    "padding from the end": TableOptions(padding_idx=-2),
    "admit_after": TableOptions(admit_after=2),
    "frozen": TableOptions(frozen=True),
    "lr": TableOptions(optimizer=TableOptimizer(lr=0.03)),
}
ALL = TableOptions(
    max_norm=0.9,
    scale_grad_by_freq=True,
    gradient=Gradient.dense,
    padding_idx=1,
    admit_after=1,
    optimizer=TableOptimizer(lr=0.05, weight_decay=0.1, clip_value=0.5),
)


@pytest.mark.parametrize("option", SINGLE)
@pytest.mark.parametrize("name", list(NAMES))
def test_each_option_follows_its_definition_with_each_optimizer(option, name):
    run_against_oracle(SparseOptimizer(name=name, lr=0.1), None, options=SINGLE[option])


@pytest.mark.parametrize("option", SINGLE)
@pytest.mark.parametrize("kind", KINDS)
def test_each_option_follows_its_definition_in_each_kind_of_lookup(option, kind):
    optimizer = SparseOptimizer(name=NAMES.rowwise_adagrad, lr=0.1)
    run_against_oracle(optimizer, None, kind=kind, options=SINGLE[option])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(NAMES))
def test_all_options_together_follow_their_definitions(kind, name):
    optimizer = SparseOptimizer(name=name, lr=0.1)
    batches = (RAGGED, ONE_HOT, EMPTY, RAGGED)
    run_against_oracle(optimizer, None, kind=kind, options=ALL, batches=batches)


@pytest.mark.parametrize("pair", list(itertools.combinations(SINGLE, 2)), ids=str)
def test_options_combine_two_by_two(pair):
    merged = {}
    for option in pair:
        given = SINGLE[option]
        for key in TableOptions.__slots__:
            if getattr(given, key) != getattr(TableOptions(), key):
                merged[key] = getattr(given, key)
    optimizer = SparseOptimizer(name=NAMES.partial_rowwise_adam, lr=0.1)
    run_against_oracle(optimizer, None, options=TableOptions(**merged))


def test_a_dense_gradient_moves_rows_that_were_not_looked_up():
    optimizer = SparseOptimizer(name=NAMES.adam, lr=0.1)
    dense = TableOptions(gradient=Gradient.dense)
    states = run_against_oracle(
        optimizer, None, options=dense, batches=(RAGGED, EMPTY, EMPTY)
    )
    assert states["own"].step == 3


def test_a_dense_gradient_steps_as_torch_optim_does():
    model = plain_model([table("t", 6, 4, ["f"], options=SINGLE["dense"])])
    bag = torch.nn.EmbeddingBag.from_pretrained(
        model.bags.embedding_bags["t"].weight.detach().clone(), freeze=False, mode="sum"
    )
    adam = torch.optim.Adam(bag.parameters(), lr=0.1, eps=1e-8)
    optimizer = SparseOptimizer(name=NAMES.adam, lr=0.1)
    to_local(model, optimizer=optimizer, device=CPU)
    for ids in ([0, 0, 3], [5], [1, 2]):
        model.bags(keyed_bags({"f": [ids]})).values().square().sum().backward()
        adam.zero_grad()
        bag(torch.tensor([ids])).square().sum().backward()
        adam.step()
    got = table_states(model)["t"].weight
    torch.testing.assert_close(got, bag.weight.detach(), rtol=1e-5, atol=1e-6)


def test_max_norm_is_that_of_torch_in_values_and_in_stored_rows():
    options = TableOptions(max_norm=0.7)
    model = plain_model([table("t", 6, 4, ["f"], options=options)])
    bag = torch.nn.EmbeddingBag.from_pretrained(
        model.bags.embedding_bags["t"].weight.detach().clone(),
        freeze=False,
        mode="sum",
        max_norm=0.7,
    )
    to_local(model, optimizer=SparseOptimizer(name=NAMES.sgd, lr=0.5), device=CPU)
    for ids in ([0, 0, 3], [3, 1], [1, 2]):
        got, expected = model.bags(keyed_bags({"f": [ids]})), bag(torch.tensor([ids]))
        torch.testing.assert_close(got.values(), expected)
        bag.zero_grad()
        got.values().square().sum().backward()
        expected.square().sum().backward()
        with torch.no_grad():
            bag.weight.sub_(0.5 * bag.weight.grad)
        torch.testing.assert_close(table_states(model)["t"].weight, bag.weight.detach())


def test_evaluation_sees_rescaled_rows_and_stores_none():
    model = plain_model([table("t", 6, 4, ["f"], options=TableOptions(max_norm=0.1))])
    to_local(model, optimizer=SparseOptimizer(), device=CPU)
    before = table_states(model)["t"].weight.clone()
    vectors = model.eval().bags(keyed_bags({"f": [[0], [1], [5]]})).values()
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((3,), 0.1))
    assert torch.equal(table_states(model)["t"].weight, before)


def test_a_row_is_zero_and_untrained_until_it_has_been_looked_up_often_enough():
    options = TableOptions(admit_after=3)
    model = plain_model([table("t", 4, 4, ["f"], options=options)])
    to_local(model, optimizer=SparseOptimizer(name=NAMES.sgd, lr=0.5), device=CPU)
    start = table_states(model)["t"].weight.clone()

    def train(*ids: int) -> torch.Tensor:
        vectors = model.bags(keyed_bags({"f": [[i] for i in ids]})).values()
        vectors.sum().backward()
        return vectors.detach()

    assert torch.equal(train(2, 2), torch.zeros(2, 4))
    # Two uses so far: the third, in this step, does not yet count.
    assert torch.equal(train(2), torch.zeros(1, 4))
    assert torch.equal(table_states(model)["t"].weight, start)
    assert torch.equal(train(2, 1), torch.stack([start[2], torch.zeros(4)]))
    torch.testing.assert_close(table_states(model)["t"].weight[2], start[2] - 0.5)
    model.eval()
    evaluated = model.bags(keyed_bags({"f": [[2], [1]]})).values()
    torch.testing.assert_close(evaluated[0], start[2] - 0.5)
    assert torch.equal(evaluated[1], torch.zeros(4))
    assert table_states(model)["t"].optimizer["uses"].tolist() == [0, 1, 4, 0]


def test_the_count_of_uses_stops_at_its_largest_number():
    model = plain_model([table("t", 2, 4, ["f"], options=TableOptions(admit_after=1))])
    to_local(model, optimizer=SparseOptimizer(), device=CPU)
    uses, last = table_states(model)["t"].optimizer["uses"], 2**31 - 1
    uses[0] = last - 1
    model.bags(keyed_bags({"f": [[0, 0, 0]]})).values().sum().backward()
    assert uses.tolist() == [last, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_table_keeps_no_state_and_wants_no_gradient(kind):
    options = TableOptions(frozen=True)
    states = run_against_oracle(
        SparseOptimizer(name=NAMES.adam), None, kind=kind, options=options
    )
    assert states["own"].optimizer == {}
    assert states["own"].step == 0


def test_weights_of_ids_receive_their_gradient_from_a_frozen_table_too():
    options = TableOptions(frozen=True)
    model = plain_model([table("t", 3, 4, ["f"], options=options)], is_weighted=True)
    weight = model.bags.embedding_bags["t"].weight.detach().clone()
    to_local(model, optimizer=SparseOptimizer(), device=CPU)
    bags = keyed_bags({"f": [[0, 1]]}, seed=0)
    bags.weights().requires_grad_()
    model.bags(bags).values().sum().backward()
    torch.testing.assert_close(bags.weights().grad, weight[:2].sum(1))


def test_weights_of_ids_receive_the_gradient_of_rescaled_rows():
    options = TableOptions(max_norm=0.5)
    model = plain_model([table("t", 3, 4, ["f"], options=options)], is_weighted=True)
    weight = model.bags.embedding_bags["t"].weight.detach().clone()
    to_local(model, optimizer=SparseOptimizer(), device=CPU)
    bags = keyed_bags({"f": [[0, 1]]}, seed=0)
    bags.weights().requires_grad_()
    model.bags(bags).values().sum().backward()
    norms = weight[:2].norm(dim=1, keepdim=True)
    expected = (weight[:2] * 0.5 / norms.clamp(min=0.5)).sum(1)
    torch.testing.assert_close(bags.weights().grad, expected)


def test_tables_with_their_own_optimizer_and_rate_train_by_them():
    own = TableOptions(optimizer=TableOptimizer(name=NAMES.sgd, lr=0.25))
    tables = [table("t", 3, 4, ["f"]), table("u", 3, 4, ["g"], options=own)]
    model = plain_model(tables)
    optimizer = SparseOptimizer(name=NAMES.adagrad, lr=1.0)
    to_local(model, optimizer=optimizer, device=CPU)
    states = table_states(model)
    before = {name: state.weight.clone() for name, state in states.items()}
    assert set(states["t"].optimizer) == {"sum"}
    assert states["u"].optimizer == {}
    for factor in (1.0, 0.5):
        set_sparse_rate_factor(model, factor)
        model.bags(keyed_bags({"f": [[1]], "g": [[2]]})).values().sum().backward()
    moved = before["t"][1] - 1.0 - 0.5 / 2**0.5
    torch.testing.assert_close(states["t"].weight[1], moved)
    torch.testing.assert_close(states["u"].weight[2], before["u"][2] - 0.375)


def test_a_table_of_default_options_stays_with_fbgemm_beside_one_of_others():
    tables = [
        table("t", 3, 4, ["f"]),
        table("u", 3, 4, ["g"], options=TableOptions(max_norm=1.0)),
    ]
    model = plain_model(tables)
    to_local(model, optimizer=SparseOptimizer(), device=CPU)
    names = [type(bags).__name__ for bags in model.bags.kernels]
    assert names == [FUSED, "TorchBags"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (TableOptions(max_norm=1.0), "max_norm=1.0"),
        (TableOptions(scale_grad_by_freq=True), "scale_grad_by_freq=true"),
        (TableOptions(gradient=Gradient.dense), "gradient=dense"),
        (TableOptions(padding_idx=0), "padding_idx"),
        (TableOptions(frozen=True), "frozen=true"),
        (TableOptions(admit_after=2), "admit_after=2"),
        (TableOptions(dtype=TableDtype.float16), "dtype=torch.float16"),
        (TableOptions(dtype=TableDtype.bfloat16), "dtype=torch.bfloat16"),
        (
            TableOptions(optimizer=TableOptimizer(name=NAMES.adam)),
            "optimizer adam",
        ),
        (
            TableOptions(optimizer=TableOptimizer(weight_decay=0.5)),
            "weight_decay=0.5",
        ),
    ],
)
@pytest.mark.usefixtures("without_native")
def test_what_fbgemm_gets_wrong_goes_to_torch_and_is_refused_when_forced(
    options, reason
):
    config = table("t", 3, 4, ["f"], options=options)
    resolved = kernel_options(config, SparseOptimizer())
    assert choose_kernel(resolved, CPU) is Kernel.torch
    model = plain_model([config])
    with pytest.raises(ConfigError, match=f"table 't' has {reason}"):
        to_local(model, optimizer=SparseOptimizer(), device=CPU, kernel=Kernel.fbgemm)


@pytest.mark.parametrize("given", [7, -8])
def test_a_padding_row_that_the_table_lacks_is_refused_by_name(given):
    config = row_table("t", 7, 4, ["f"], options=TableOptions(padding_idx=given))
    with pytest.raises(ConfigError, match=rf"tables.t.padding_idx .* it is {given}"):
        to_local(plain_model([config]), optimizer=SparseOptimizer(), device=CPU)


def test_a_batch_without_rows_passes_through_and_still_steps_dense_gradients():
    optimizer = SparseOptimizer(name=NAMES.sgd, lr=0.5, weight_decay=0.1)
    model = plain_model([table("t", 3, 4, ["f"], options=SINGLE["dense"])])
    to_local(model, optimizer=optimizer, device=CPU)
    before = table_states(model)["t"].weight.clone()
    vectors = model.bags(keyed_bags({"f": []})).values()
    assert vectors.shape == (0, 4)
    vectors.sum().backward()
    torch.testing.assert_close(table_states(model)["t"].weight, before * 0.95)


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_one_by_one_of_a_batch_without_rows_pass_through(kernel):
    model = plain_model([row_table("t", 3, 4, ["f", "g"]), row_table("u", 3, 4, ["h"])])
    optimizer = SparseOptimizer(name=NAMES.sgd)
    to_local(model, optimizer=optimizer, device=CPU, kernel=kernel)
    for bags in ({"f": [], "g": [], "h": []}, {"f": [[]], "g": [[]], "h": [[]]}):
        found = model.bags(keyed_bags(bags))
        assert list(found) == ["f", "g", "h"]
        assert all(jagged.values().shape == (0, 4) for jagged in found.values())
        torch.cat([jagged.values() for jagged in found.values()]).sum().backward()


def test_uses_of_a_row_are_counted_over_all_features_of_its_table():
    options = TableOptions(scale_grad_by_freq=True)
    model = plain_model([table("t", 3, 4, ["f", "g"], options=options)])
    to_local(model, optimizer=SparseOptimizer(name=NAMES.sgd, lr=1.0), device=CPU)
    before = table_states(model)["t"].weight.clone()
    bags = keyed_bags({"f": [[1, 1], [0]], "g": [[1], []]})
    model.bags(bags).values().sum().backward()
    np.testing.assert_allclose(
        table_states(model)["t"].weight, before - torch.tensor([[1.0], [1.0], [0.0]])
    )


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_gradients_divided_by_uses_are_those_of_torch(pooling):
    options = TableOptions(scale_grad_by_freq=True)
    model = plain_model([table("t", 5, 4, ["f"], pooling, options=options)])
    # On a CPU torch's own bag divides by the uses of another row, so the reference is
    # its embedding, pooled here.
    rows = torch.nn.Embedding.from_pretrained(
        model.bags.embedding_bags["t"].weight.detach().clone(),
        freeze=False,
        scale_grad_by_freq=True,
    )
    to_local(model, optimizer=SparseOptimizer(name=NAMES.sgd, lr=1.0), device=CPU)
    bags, factor = [[0, 0, 3], [], [3, 0], [4]], torch.randn(4, 4)
    (model.bags(keyed_bags({"f": bags})).values() * factor).sum().backward()
    vectors = rows(torch.tensor([i for ids in bags for i in ids]))
    sizes = torch.tensor([3, 0, 2, 1])
    pooled = torch.zeros(4, 4).index_add(0, torch.tensor([0, 0, 0, 2, 2, 3]), vectors)
    if pooling == "mean":
        pooled = pooled / sizes.clamp(min=1)[:, None]
    (pooled * factor).sum().backward()
    expected = rows.weight.detach() - rows.weight.grad
    torch.testing.assert_close(table_states(model)["t"].weight, expected)


def test_rows_one_by_one_train_as_torch_embedding_does():
    options = TableOptions(scale_grad_by_freq=True, max_norm=1.0, padding_idx=3)
    model = plain_model([row_table("t", 5, 4, ["f"], options=options)])
    rows = torch.nn.Embedding.from_pretrained(
        model.bags.embeddings["t"].weight.detach().clone(),
        freeze=False,
        scale_grad_by_freq=True,
        max_norm=1.0,
        padding_idx=3,
    )
    with torch.no_grad():
        for weight in (rows.weight, model.bags.embeddings["t"].weight):
            weight[3] = 0.0
    to_local(model, optimizer=SparseOptimizer(name=NAMES.sgd, lr=1.0), device=CPU)
    got = model.bags(keyed_bags({"f": [[0, 0, 3], [], [3, 1]]}))["f"].values()
    expected = rows(torch.tensor([0, 0, 3, 3, 1]))
    torch.testing.assert_close(got, expected)
    factor = torch.randn(5, 4)
    (got * factor).sum().backward()
    (expected * factor).sum().backward()
    torch.testing.assert_close(
        table_states(model)["t"].weight, rows.weight.detach() - rows.weight.grad
    )
