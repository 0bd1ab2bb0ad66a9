"""What travels in fewer bits: rounded as its type rounds, and that much shorter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling
from dlrm.config.sharding import (
    CommunicationConfig,
    Precision,
    ShardingConfig,
    Strategy,
)
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.sharded.communication import refuse_communication
from dlrm.embeddings.sharded.swap import collection_configs, to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from tests.embeddings.sharded.cases import Case, initial_values, place
from tests.embeddings.sharded.jobs import CPU, batch_of
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")
WIDTH = 16
ROUNDING = {Precision.fp16: 2.0**-11, Precision.bf16: 2.0**-8}
"""Half the distance of neighbouring numbers, to the size of them."""
SHARE = {Precision.fp16: 0.5, Precision.bf16: 0.5, Precision.int8: 24 / 64}
"""Of fp32's bytes; a row of 16 int8 has a scale and an offset beside it."""
SUMMED = (Strategy.row_wise, Strategy.table_row_wise, Strategy.grid)
COLLECTIVES = ("all_to_all_single", "reduce_scatter_tensor", "all_gather_into_tensor")


@dataclass
class Step:
    """One step of a rank."""

    vectors: np.ndarray
    """[B, widths]."""
    updates: dict[str, np.ndarray]
    """What the step added to each table."""
    gradients: np.ndarray
    forward_bytes: int = 0
    backward_bytes: int = 0


@dataclass
class _Sent:
    num_bytes: int = 0
    seen: list[str] = field(default_factory=list)


@contextmanager
def counted() -> Iterator[_Sent]:
    """Count the bytes of vectors that are given to collectives."""
    sent = _Sent()
    before = {name: getattr(dist, name) for name in COLLECTIVES}

    def counting(name: str) -> Callable[..., Any]:
        def call(output: torch.Tensor, input: torch.Tensor, *a: Any, **k: Any) -> Any:
            if input.dtype not in (torch.int64, torch.int32):
                sent.num_bytes += input.numel() * input.element_size()
                sent.seen.append(name)
            return before[name](output, input, *a, **k)

        return call

    for name in COLLECTIVES:
        setattr(dist, name, counting(name))
    try:
        yield sent
    finally:
        for name, function in before.items():
            setattr(dist, name, function)


def step(
    group: dist.ProcessGroup, case: Case, strategy: Strategy, config: ShardingConfig
) -> Step:
    embeddings = FeatureEmbeddings(case.schema)
    model = torch.nn.ModuleDict({"embeddings": embeddings})
    to_sharded(
        model,
        plan=place(model, {}, group.size(), default=strategy),
        optimizer=case.optimizer,
        group=group,
        device=CPU,
        initial=initial_values(),
        sharding=config,
    )
    before = {name: w.weight.clone() for name, w in gather_tables(model, group).items()}
    sparse, target, _ = batch_of(case, 0, group)
    with counted() as forward:
        vectors = torch.cat(embeddings(sparse), dim=1)
    gradients = (vectors - target).detach()
    with counted() as backward:
        vectors.backward(gradients)
    updates = {
        name: (whole.weight - before[name]).numpy()
        for name, whole in gather_tables(model, group).items()
    }
    return Step(
        vectors.detach().numpy(),
        updates,
        gradients.numpy(),
        forward.num_bytes,
        backward.num_bytes,
    )


def sharding(forward: Precision, backward: Precision = Precision.fp32):
    communication = CommunicationConfig(forward=forward, backward=backward)
    return ShardingConfig(exact=False, communication=communication)


def forward_error(
    kind: Precision, exact: np.ndarray, strategy: Strategy, pooling: Pooling
) -> np.ndarray:
    """Return how far rounded vectors may lie from ``exact`` [B, widths]."""
    if kind is Precision.int8:
        rows = exact.reshape(-1, WIDTH)
        spread = rows.max(1) - rows.min(1)
        if pooling is Pooling.max:
            # Rows travel one by one; the tables' values lie from -2 to 2.
            spread = spread.clip(min=4.0)
        return np.repeat(spread / 255 * 0.51, WIDTH).reshape(exact.shape) + 1e-6
    if strategy in SUMMED:
        # Two parts and their sum are rounded; parts may be larger than the sum.
        return np.full(exact.shape, 4 * ROUNDING[kind] * np.abs(exact).max())
    return np.abs(exact) * ROUNDING[kind] + 1e-7


CASES = [
    (kind, strategy, pooling)
    for kind in ROUNDING
    for strategy in (Strategy.table_wise, Strategy.row_wise, Strategy.grid)
    for pooling in (Pooling.sum, Pooling.max)
    if not (pooling is Pooling.max and strategy is Strategy.grid)
] + [
    (Precision.int8, Strategy.table_wise, Pooling.sum),
    (Precision.int8, Strategy.table_wise, Pooling.max),
]


@pytest.mark.parametrize(("kind", "strategy", "pooling"), CASES)
def test_vectors_are_rounded_as_their_type_rounds_and_that_much_shorter(
    kind: Precision, strategy: Strategy, pooling: Pooling, two_ranks: Ranks
):
    case = Case(pooling=pooling, embedding_dim=WIDTH)
    exact = two_ranks.run(step, case, strategy, ShardingConfig())
    rounded = two_ranks.run(step, case, strategy, sharding(kind))
    for one, other in zip(exact, rounded, strict=True):
        error = np.abs(other.vectors - one.vectors)
        limit = forward_error(kind, one.vectors, strategy, pooling)
        assert (error <= limit).all()
        assert error.max() > 0.0
        assert other.forward_bytes == pytest.approx(one.forward_bytes * SHARE[kind])
        assert other.backward_bytes == one.backward_bytes


@pytest.mark.parametrize(("kind", "strategy", "pooling"), CASES)
def test_gradients_are_rounded_as_their_type_rounds_and_that_much_shorter(
    kind: Precision, strategy: Strategy, pooling: Pooling, two_ranks: Ranks
):
    case = Case(pooling=pooling, embedding_dim=WIDTH)
    exact = two_ranks.run(step, case, strategy, ShardingConfig())
    rounded = two_ranks.run(step, case, strategy, sharding(Precision.fp32, kind))
    largest = max(np.abs(one.gradients).max() for one in exact)
    per_use = ROUNDING.get(kind, 2 * 0.51 / 255) * largest * case.optimizer.lr
    for one, other in zip(exact, rounded, strict=True):
        np.testing.assert_array_equal(other.vectors, one.vectors)
        assert other.backward_bytes == pytest.approx(one.backward_bytes * SHARE[kind])
        assert other.forward_bytes == one.forward_bytes
        errors = [np.abs(other.updates[t] - one.updates[t]) for t in one.updates]
        # A row is used by a few ids of a batch; gradients are the mean over two ranks.
        assert max(error.max() for error in errors) <= 6 * per_use
        assert max(error.max() for error in errors) > 0.0


def small_gradients(group: dist.ProcessGroup, config: ShardingConfig) -> np.ndarray:
    """Return what gradients of 1e-7 add to a table that starts at zero."""
    case = Case(embedding_dim=WIDTH)
    embeddings = FeatureEmbeddings(case.schema)
    model = torch.nn.ModuleDict({"embeddings": embeddings})
    to_sharded(
        model,
        plan=place(model, {}, group.size()),
        optimizer=case.optimizer,
        group=group,
        device=CPU,
        sharding=config,
    )
    sparse, _, _ = batch_of(case, 0, group)
    vectors = torch.cat(embeddings(sparse), dim=1)
    vectors.backward(torch.full_like(vectors, 1e-7))
    return gather_tables(model, group)["a"].weight.numpy()


def test_small_gradients_survive_in_fp16(two_ranks: Ranks):
    exact, _ = two_ranks.run(small_gradients, ShardingConfig())
    half = sharding(Precision.fp32, Precision.fp16)
    rounded, _ = two_ranks.run(small_gradients, half)
    assert np.abs(exact).max() > 0.0
    np.testing.assert_allclose(rounded, exact, rtol=2.0**-10)


@pytest.mark.parametrize("strategy", SUMMED)
def test_int8_is_refused_where_vectors_are_added_up_on_their_way(strategy: Strategy):
    case = Case(embedding_dim=WIDTH)
    model = torch.nn.ModuleDict({"embeddings": FeatureEmbeddings(case.schema)})
    plan = place(model, {}, 2, default=strategy)
    (table, *_) = collection_configs(model)
    config = CommunicationConfig(forward=Precision.int8)
    with pytest.raises(ConfigError) as caught:
        refuse_communication(config, table, plan.tables["a"])
    assert "sharding.communication.forward=int8 does not go with table 'a'" in str(
        caught.value
    )
    assert strategy.value in str(caught.value)


def test_int8_is_refused_for_widths_that_are_no_multiples_of_four():
    model = torch.nn.ModuleDict(
        {"embeddings": FeatureEmbeddings(Case(embedding_dim=6).schema)}
    )
    plan = place(model, {}, 2)
    (table, *_) = collection_configs(model)
    config = CommunicationConfig(backward=Precision.int8)
    with pytest.raises(ConfigError, match=r"backward=int8 needs .* 'a' has 6 columns"):
        refuse_communication(config, table, plan.tables["a"])
    refuse_communication(
        config, table, place(model, {}, 2, default=Strategy.data_parallel).tables["a"]
    )


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_anything_but_fp32_needs_exact_false(name: str):
    communication = CommunicationConfig(**{name: Precision.bf16})
    with pytest.raises(ConfigError) as caught:
        ShardingConfig(communication=communication)
    assert str(caught.value) == (
        f"sharding.communication.{name} must be fp32 unless sharding.exact=false, as "
        f"one process does, but it is bf16."
    )
    ShardingConfig(communication=communication, exact=False)
