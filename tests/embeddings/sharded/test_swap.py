"""Swapping to sharded tables and back, and what the swapped model does besides."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from dlrm.config.errors import ConfigError, DataError
from dlrm.config.features import Pooling
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import TableDtype, TableOptions
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.placement import BY_COLUMNS
from dlrm.embeddings.sharded.refusals import ROW_BY_ROW, refusal
from dlrm.embeddings.sharded.swap import (
    to_plain,
    to_sharded,
)
from dlrm.embeddings.sharded.whole_tables import gather_tables, load_tables
from dlrm.embeddings.state import set_sparse_rate_factor, table_parts
from tests.embeddings.sharded.cases import Case, initial_values, place, strategies
from tests.embeddings.sharded.jobs import CPU, batch_of, step
from tests.embeddings.sharded.ranks import Ranks

ADAM = SparseOptimizer(name=SparseOptimizerName.adam, lr=0.1, eps=1e-3)


def sharded(
    group: dist.ProcessGroup, case: Case, strategy: Strategy, *, filled: bool = True
) -> nn.ModuleDict:
    model = nn.ModuleDict({"embeddings": FeatureEmbeddings(case.schema)})
    to_sharded(
        model,
        plan=place(model, strategies(strategy), group.size()),
        optimizer=case.optimizer,
        group=group,
        device=CPU,
        initial=initial_values() if filled else None,
    )
    return model


def local(case: Case) -> nn.ModuleDict:
    model = nn.ModuleDict({"embeddings": FeatureEmbeddings(case.schema)})
    to_local(model, optimizer=case.optimizer, device=CPU, initial=initial_values())
    return model


def rows_of(model: nn.Module) -> dict[str, np.ndarray]:
    return {
        name.split(".")[-2]: weight.detach().float().numpy().copy()
        for name, weight in [*model.named_parameters(), *model.named_buffers()]
        if name.endswith(".weight")
    }


def swap_there_and_back(
    group: dist.ProcessGroup, case: Case, strategy: Strategy
) -> tuple[dict[str, np.ndarray], list[str]]:
    model = sharded(group, case, strategy)
    assert list(model.parameters()) == []
    to_plain(model, group)
    return rows_of(model), list(model.state_dict())


@pytest.mark.parametrize("dtype", list(TableDtype))
@pytest.mark.parametrize(
    ("strategy", "pooling"),
    [
        (strategy, pooling)
        for strategy in Strategy
        for pooling in (Pooling.sum, Pooling.max)
        if pooling is Pooling.sum or refusal(ROW_BY_ROW, strategy) is None
    ],
)
def test_tables_start_and_come_back_bit_equal_to_one_process(
    strategy: Strategy, pooling: Pooling, dtype: TableDtype, two_ranks: Ranks
):
    options = TableOptions(dtype=dtype, padding_idx=3)
    case = Case(pooling=pooling, options=options)
    expected = local(case)
    for rows, names in two_ranks.run(swap_there_and_back, case, strategy):
        assert set(names) == set(expected.state_dict())
        for table, weight in rows_of(expected).items():
            np.testing.assert_array_equal(rows[table], weight)


def train_two_steps(
    group: dist.ProcessGroup, case: Case, first: Strategy, second: Strategy | None
) -> dict[str, dict[str, np.ndarray]]:
    """Train; where there is a second strategy, go over to it after the first step."""
    model = sharded(group, case, first)
    step(model["embeddings"], case, 0, group)
    if second is not None:
        saved = gather_tables(model, group)
        model = sharded(group, case, second, filled=False)
        load_tables(model, saved)
    step(model["embeddings"], case, 1, group)
    return {
        name: {key: values.numpy() for key, values in whole.columns.items()}
        for name, whole in gather_tables(model, group).items()
    }


@pytest.mark.parametrize("first", list(Strategy))
def test_weights_state_and_counters_survive_a_change_of_strategy(
    first: Strategy, two_ranks: Ranks
):
    case = Case(options=TableOptions(admit_after=1), optimizer=ADAM)
    undisturbed = two_ranks.run(train_two_steps, case, first, None)[0]
    assert undisturbed["a"].keys() == {"weight", "exp_avg", "exp_avg_sq", "uses"}
    others = [strategy for strategy in Strategy if strategy is not first]
    for second in random.Random(first.value).sample(others, 2):
        changed = two_ranks.run(train_two_steps, case, first, second)[0]
        for table, columns in undisturbed.items():
            for name, values in columns.items():
                np.testing.assert_allclose(
                    changed[table][name], values, rtol=1e-5, atol=1e-6
                )


def look_up_bad_id(
    group: dist.ProcessGroup, case: Case, strategy: Strategy, bad_id: int
) -> str:
    model = sharded(group, case, strategy)
    bags = batch_of(case, 0, group)[0]
    bags["pooled"].values()[0] = bad_id
    with pytest.raises(DataError) as caught:
        model["embeddings"](bags)
    return str(caught.value)


@pytest.mark.parametrize("bad_id", [-1, 11])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_an_id_out_of_range_is_named_before_it_is_sent(
    strategy: Strategy, bad_id: int, two_ranks: Ranks
):
    for message in two_ranks.run(look_up_bad_id, Case(), strategy, bad_id):
        assert "Feature 'a' of table 'a' must have ids from 0 to 10" in message
        assert f"but got {bad_id} in row" in message


def gradient_of_weights(
    group: dist.ProcessGroup | None, case: Case, strategy: Strategy
) -> np.ndarray:
    model = local(case) if group is None else sharded(group, case, strategy)
    sparse, target, real = batch_of(case, 0, group)
    weights = sparse["weighted"].weights().requires_grad_()
    vectors = torch.cat(model["embeddings"](sparse), dim=1)
    # Unlike the tables', this gradient is this process's own.
    (0.5 * ((vectors - target)[real] ** 2)).sum().backward()
    assert weights.grad is not None
    return weights.grad.numpy()


def test_replicas_give_weights_their_gradient(one_rank: Ranks, two_ranks: Ranks):
    case = Case(weighted=True)
    expected = gradient_of_weights(None, case, Strategy.data_parallel)
    (alone,) = one_rank.run(gradient_of_weights, case, Strategy.data_parallel)
    np.testing.assert_allclose(alone, expected, rtol=1e-5, atol=1e-6)
    halves = two_ranks.run(gradient_of_weights, case, Strategy.data_parallel)
    assert sum(map(len, halves)) == len(expected)
    joined = np.sort(np.concatenate(halves))
    np.testing.assert_allclose(joined, np.sort(expected), rtol=1e-5, atol=1e-6)


def ask_for_refused_gradient(
    group: dist.ProcessGroup, case: Case, strategy: Strategy
) -> str:
    with pytest.raises(ConfigError) as caught:
        gradient_of_weights(group, case, strategy)
    return str(caught.value)


@pytest.mark.parametrize(
    "strategy", [s for s in Strategy if s is not Strategy.data_parallel]
)
def test_a_gradient_of_weights_that_cannot_travel_is_refused(
    strategy: Strategy, two_ranks: Ranks
):
    expected = refusal("gradient of per_sample_weights", strategy)
    got = two_ranks.run(ask_for_refused_gradient, Case(weighted=True), strategy)
    assert got == [expected, expected]


def train_at_half_rate(
    group: dist.ProcessGroup, case: Case, strategy: Strategy
) -> np.ndarray:
    model = sharded(group, case, strategy)
    before = gather_tables(model, group)["a"].weight
    set_sparse_rate_factor(model, 0.5)
    step(model["embeddings"], case, 0, group)
    at_half = gather_tables(model, group)["a"].weight - before
    model = sharded(group, case, strategy)
    step(model["embeddings"], case, 0, group)
    return (2 * at_half - (gather_tables(model, group)["a"].weight - before)).numpy()


@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_rate_factor_scales_the_step(strategy: Strategy, two_ranks: Ranks):
    for difference in two_ranks.run(train_at_half_rate, Case(), strategy):
        np.testing.assert_allclose(difference, 0.0, atol=1e-6)


def evaluate_with_gradients(
    group: dist.ProcessGroup, case: Case, strategy: Strategy
) -> float:
    model = sharded(group, case, strategy).eval()
    before = gather_tables(model, group)["a"].weight
    step(model["embeddings"], case, 0, group)
    return float((gather_tables(model, group)["a"].weight - before).abs().max())


@pytest.mark.parametrize("strategy", list(Strategy))
def test_evaluation_changes_no_table(strategy: Strategy, two_ranks: Ranks):
    case = Case(options=TableOptions(max_norm=0.5 if can_limit(strategy) else None))
    assert two_ranks.run(evaluate_with_gradients, case, strategy) == [0.0, 0.0]


def keep_no_state(
    group: dist.ProcessGroup, case: Case, strategy: Strategy
) -> tuple[set[str], np.ndarray]:
    model = nn.ModuleDict({"embeddings": FeatureEmbeddings(case.schema)})
    to_sharded(
        model,
        plan=place(model, strategies(strategy), group.size()),
        optimizer=case.optimizer,
        group=group,
        device=CPU,
        initial=initial_values(),
        trainable=False,
    )
    sparse, _, real = batch_of(case, 0, group)
    vectors = torch.cat(model["embeddings"](sparse), dim=1)[real]
    names = {name for part in table_parts(model) for name in part.columns}
    return names, vectors.detach().numpy()


@pytest.mark.parametrize("strategy", list(Strategy))
def test_tables_for_evaluation_have_the_vectors_and_no_state(
    strategy: Strategy, two_ranks: Ranks
):
    case = Case(optimizer=ADAM)
    got = two_ranks.run(keep_no_state, case, strategy)
    assert [names for names, _ in got] == [{"weight"}, {"weight"}]
    sparse, _, _ = batch_of(case, 0, None)
    expected = torch.cat(local(case)["embeddings"](sparse), dim=1).detach().numpy()
    vectors = np.concatenate([part for _, part in got])
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)


def can_limit(strategy: Strategy) -> bool:
    return strategy not in BY_COLUMNS


def look_up_derived(group: dist.ProcessGroup | None, case: Case) -> list[np.ndarray]:
    schema = case.schema
    linear = FeatureEmbeddings(
        schema.derived("linear", embedding_dim=1), batch_groups=schema.groups
    )
    model = nn.ModuleDict({"linear": linear, "deep": FeatureEmbeddings(schema)})
    common = {"optimizer": case.optimizer, "device": CPU, "initial": initial_values()}
    if group is None:
        to_local(model, **common)
    else:
        plan = place(model, {}, group.size(), Strategy.row_wise)
        to_sharded(model, plan=plan, group=group, **common)
    sparse, _, real = batch_of(case, 0, group)
    vectors = [torch.cat(part(sparse), dim=1)[real] for part in model.values()]
    return [part.detach().numpy() for part in vectors]


def test_tables_that_a_model_adds_are_sharded_too(two_ranks: Ranks):
    case = Case(pooling=Pooling.max)
    expected = look_up_derived(None, case)
    halves = two_ranks.run(look_up_derived, case)
    for part, both in zip(expected, zip(*halves, strict=True), strict=True):
        np.testing.assert_allclose(np.concatenate(both), part, rtol=1e-5, atol=1e-6)


def list_parts(group: dist.ProcessGroup) -> list[tuple[str, int]]:
    model = sharded(group, Case(), Strategy.row_wise)
    return [(part.table, part.part.num_rows) for part in table_parts(model)]


def test_each_rank_keeps_its_own_part(two_ranks: Ranks):
    first, second = two_ranks.run(list_parts)
    assert ("a", 6) in first
    assert ("a", 5) in second
    assert [name for name, _ in first + second].count("c") == 1
    assert [name for name, _ in first + second].count("d") == 2
