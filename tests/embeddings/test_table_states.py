"""Live views: saved and restored state goes on to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.table_options import TableDtype, TableOptions
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.local import to_local
from dlrm.embeddings.state import table_states
from tests.embeddings.oracle import (
    CPU,
    TRAINERS,
    keyed_bags,
    plain_model,
    row_table,
    table,
)
from tests.embeddings.oracle_run import vectors_of

NAMES = SparseOptimizerName
BATCHES = [{"a": [[i % 5, 1], [], [4]], "b": [[i % 3], [2], [0, 0]]} for i in range(6)]
SHAPES = {
    NAMES.sgd: {},
    NAMES.adagrad: {"sum": (5, 4)},
    NAMES.rowwise_adagrad: {"sum": (5,)},
    NAMES.adam: {"exp_avg": (5, 4), "exp_avg_sq": (5, 4)},
    NAMES.partial_rowwise_adam: {"exp_avg": (5, 4), "exp_avg_sq": (5,)},
    NAMES.lamb: {"exp_avg": (5, 4), "exp_avg_sq": (5, 4)},
    NAMES.partial_rowwise_lamb: {"exp_avg": (5, 4), "exp_avg_sq": (5,)},
    NAMES.lars_sgd: {"momentum": (5, 4)},
}


def local_model(kernel: Kernel, name: SparseOptimizerName, seed: int = 0) -> nn.Module:
    tables = [table("t", 5, 4, ["a"]), table("u", 3, 4, ["b"])]
    model = plain_model(tables, seed=seed)
    options = SparseOptimizer(name=name, lr=0.1)
    to_local(model, optimizer=options, device=CPU, kernel=kernel)
    return model


def train(model: nn.Module, batches: list[dict[str, list[list[int]]]]) -> None:
    for batch in batches:
        model.bags(keyed_bags(batch)).values().square().sum().backward()


@pytest.mark.parametrize(("kernel", "name"), TRAINERS)
def test_three_steps_and_three_more_after_a_restore_equal_six(kernel, name):
    whole = local_model(kernel, name)
    train(whole, BATCHES)
    first = local_model(kernel, name)
    train(first, BATCHES[:3])
    second = local_model(kernel, name, seed=7)
    for table_name, state in table_states(second).items():
        saved = table_states(first)[table_name]
        state.weight.copy_(saved.weight)
        for key, values in state.optimizer.items():
            values.copy_(saved.optimizer[key])
        state.set_step(saved.step)
    train(second, BATCHES[3:])
    for table_name, state in table_states(second).items():
        expected = table_states(whole)[table_name]
        assert torch.equal(state.weight, expected.weight)
        assert state.step == expected.step
        for key, values in state.optimizer.items():
            assert torch.equal(values, expected.optimizer[key])
            assert values.abs().sum() > 0


@pytest.mark.parametrize(("kernel", "name"), TRAINERS)
def test_state_has_canonical_names_and_shapes(kernel, name):
    state = table_states(local_model(kernel, name))["t"]
    assert state.weight.shape == (5, 4)
    assert {k: tuple(v.shape) for k, v in state.optimizer.items()} == SHAPES[name]
    assert not state.weight.requires_grad


@pytest.mark.parametrize("name", [NAMES.adam, NAMES.sgd])
def test_steps_are_counted_where_bias_correction_needs_them(name):
    model = local_model(Kernel.torch, name)
    train(model, BATCHES[:2])
    model.eval()
    model.bags(keyed_bags(BATCHES[0]))
    assert table_states(model)["u"].step == (2 if name is NAMES.adam else 0)


def admitting_model(seed: int = 0) -> nn.Module:
    options = TableOptions(admit_after=2, dtype=TableDtype.bfloat16)
    tables = [row_table("t", 5, 4, ["a"], options), row_table("u", 3, 4, ["b"])]
    model = plain_model(tables, seed=seed)
    to_local(model, optimizer=SparseOptimizer(name=NAMES.adagrad), device=CPU)
    return model


def train_rows(model: nn.Module, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        batch = BATCHES[step]
        vectors = vectors_of(model, keyed_bags(batch))
        sum(part.square().sum() for part in vectors.values()).backward()


def test_counts_of_uses_and_rows_one_by_one_are_state_too():
    whole = admitting_model()
    train_rows(whole, range(4))
    first, second = admitting_model(), admitting_model(seed=7)
    train_rows(first, range(2))
    states = table_states(second)
    assert set(states["t"].optimizer) == {"sum", "uses"}
    assert states["t"].optimizer["uses"].dtype == torch.int32
    assert set(states["u"].optimizer) == {"sum"}
    for table_name, state in states.items():
        saved = table_states(first)[table_name]
        state.weight.copy_(saved.weight)
        for key, values in state.optimizer.items():
            values.copy_(saved.optimizer[key])
    train_rows(second, range(2, 4))
    for table_name, state in states.items():
        expected = table_states(whole)[table_name]
        assert torch.equal(state.weight, expected.weight)
        for key, values in state.optimizer.items():
            assert torch.equal(values, expected.optimizer[key])


def test_two_tables_of_one_name_are_refused():
    model = nn.Module()
    model.left = local_model(Kernel.torch, NAMES.sgd)
    model.right = local_model(Kernel.torch, NAMES.sgd)
    with pytest.raises(ConfigError, match="table 't'"):
        table_states(model)
