"""Two groups of two processes: means of tables against one process, and refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.checkpoints.load import load_checkpoint
from dlrm.checkpoints.save import save_checkpoint
from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.config.table_options import TableDtype, TableOptions
from dlrm.distributed.job import job_over
from dlrm.distributed.plan import Part, TablePlan
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.replica_groups import (
    TableSync,
    refuse_replicas,
    replica_groups,
)
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from dlrm.embeddings.state import table_parts, table_states
from tests.embeddings.oracle import row_table, table
from tests.embeddings.sharded.cases import initial_values, place
from tests.embeddings.sharded.jobs import CPU
from tests.embeddings.sharded.ranks import Ranks

pytestmark = pytest.mark.xdist_group("ranks")
SGD = SparseOptimizer(name=SparseOptimizerName.sgd, lr=0.05)
ADAGRAD = SparseOptimizer(name=SparseOptimizerName.adagrad, lr=0.05)
TWO = ShardingConfig(replicas=2)
FEATURES = {"a": 11, "b": 11, "c": 7, "d": 5}
"""Rows of the table of each feature; a and b share one, d is looked up row by row."""
BATCH = 8
Tables = dict[str, dict[str, np.ndarray]]


class Model(nn.Module):
    """Sums of bags beside the sum of a sequence's vectors."""

    def __init__(self) -> None:
        super().__init__()
        meta = torch.device("meta")
        bags = [table("t", 11, 8, ["a", "b"]), table("u", 7, 4, ["c"])]
        self.bags = EmbeddingBagCollection(tables=bags, device=meta)
        rows = [row_table("v", 5, 4, ["d"])]
        self.rows = EmbeddingCollection(tables=rows, device=meta)

    def forward(self, pooled: KeyedJaggedTensor, single: KeyedJaggedTensor):
        vectors = self.bags(pooled)
        sums = self.rows(single)["d"].to_padded_dense(1)[:, 0]
        return torch.cat([vectors["a"], vectors["b"], vectors["c"], sums], dim=1)


def batch_of(number: int, rows: slice):
    """Return some rows of a global batch of ``BATCH``, and their targets."""
    random = np.random.default_rng(number)
    lengths = {name: random.integers(0, 4, BATCH) for name in FEATURES}
    lengths["d"] = np.ones(BATCH, dtype=np.int64)
    ids = {
        name: [random.integers(0, FEATURES[name], n) for n in lengths[name]]
        for name in FEATURES
    }
    targets = random.normal(size=(BATCH, 24)).astype(np.float32)

    def keyed(names: str) -> KeyedJaggedTensor:
        return KeyedJaggedTensor(
            keys=list(names),
            values=torch.from_numpy(
                np.concatenate([np.concatenate(ids[n][rows]) for n in names])
            ).to(torch.int32),
            lengths=torch.from_numpy(
                np.concatenate([lengths[n][rows] for n in names])
            ).to(torch.int32),
        )

    return keyed("abc"), keyed("d"), torch.from_numpy(targets[rows])


def step(model: nn.Module, number: int, rows: slice, factor: float) -> None:
    pooled, single, target = batch_of(number, rows)
    vectors = model(pooled, single)
    (0.5 * ((vectors - target) ** 2).sum() * factor).backward()


def local(optimizer: SparseOptimizer) -> Model:
    model = Model()
    to_local(model, optimizer=optimizer, device=CPU, initial=initial_values())
    return model


def train_alone(optimizer: SparseOptimizer, num_steps: int) -> Tables:
    model = local(optimizer)
    for number in range(num_steps):
        step(model, number, slice(0, BATCH), 1.0)
    return arrays(table_states(model))


def train_groups_alone(optimizer: SparseOptimizer, num_steps: int, every: int):
    """Train two models on a half of each batch, and replace both by their mean."""
    halves = [slice(0, BATCH // 2), slice(BATCH // 2, BATCH)]
    models = [local(optimizer) for _ in halves]
    states = [table_states(model) for model in models]
    for number in range(num_steps):
        for model, half in zip(models, halves, strict=True):
            step(model, number, half, 2.0)
        if (number + 1) % every == 0 or number + 1 == num_steps:
            for name in states[0]:
                columns = [state[name].columns for state in states]
                for key, first in columns[0].items():
                    mean = (first + columns[1][key]) / 2
                    for column in columns:
                        column[key].copy_(mean)
    return arrays(states[0])


def arrays(states) -> Tables:
    return {
        name: {key: values.numpy().copy() for key, values in state.columns.items()}
        for name, state in states.items()
    }


def sharded(
    group: dist.ProcessGroup,
    optimizer: SparseOptimizer,
    sharding: ShardingConfig,
    strategy: Strategy,
) -> Model:
    model = Model()
    size = group.size() // sharding.replicas
    to_sharded(
        model,
        plan=place(model, {}, size, default=strategy),
        optimizer=optimizer,
        group=group,
        device=CPU,
        initial=initial_values(),
        sharding=sharding,
    )
    return model


def train(
    group: dist.ProcessGroup,
    optimizer: SparseOptimizer,
    sharding: ShardingConfig,
    strategy: Strategy,
    num_steps: int,
) -> tuple[Tables, dict[str, np.ndarray]]:
    """Return all tables, and this rank's own parts of them."""
    model = sharded(group, optimizer, sharding, strategy)
    sync = TableSync(model, group, sharding)
    size = BATCH // group.size()
    rows = slice(group.rank() * size, (group.rank() + 1) * size)
    for number in range(num_steps):
        step(model, number, rows, float(group.size()))
        sync.after_step(number + 1)
    sync.now()
    wholes = gather_tables(model, group)
    own = {part.key: part.weight.numpy().copy() for part in table_parts(model)}
    return arrays(wholes), own


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy.table_wise,
        Strategy.row_wise,
        Strategy.column_wise,
        Strategy.data_parallel,
    ],
)
def test_sgd_averaged_after_every_step_is_one_process(
    strategy: Strategy, four_ranks: Ranks
):
    expected = train_alone(SGD, 20)
    trained = four_ranks.run(train, SGD, TWO, strategy, 20)
    assert_equal(trained[0][0], expected)
    # Rank r of one group keeps what rank r of the other keeps.
    for (_, one), (_, other) in zip(trained[:2], trained[2:], strict=True):
        assert one.keys() == other.keys()
        for key, weight in one.items():
            np.testing.assert_array_equal(other[key], weight)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("strategy", [Strategy.table_wise, Strategy.row_wise])
def test_weights_and_state_are_the_groups_means(
    strategy: Strategy, every: int, four_ranks: Ranks
):
    sharding = ShardingConfig(replicas=2, sync_every=every, exact=False)
    expected = train_groups_alone(ADAGRAD, 7, every)
    for tables, _ in four_ranks.run(train, ADAGRAD, sharding, strategy, 7):
        assert_equal(tables, expected)
        assert set(tables["t"]) == {"weight", "sum"}


def test_data_parallel_tables_are_exact_under_any_optimizer(four_ranks: Ranks):
    ((tables, _), *_) = four_ranks.run(train, ADAGRAD, TWO, Strategy.data_parallel, 5)
    assert_equal(tables, train_alone(ADAGRAD, 5))


def assert_equal(tables: Tables, expected: Tables) -> None:
    assert tables.keys() == expected.keys()
    for name, columns in expected.items():
        for key, values in columns.items():
            np.testing.assert_allclose(tables[name][key], values, atol=1e-5)


def groups_of(group: dist.ProcessGroup) -> tuple[list[int], list[int]]:
    found = replica_groups(group, 2)
    assert found.replicas is not None
    return (
        dist.get_process_group_ranks(found.sharding),
        dist.get_process_group_ranks(found.replicas),
    )


def test_groups_are_neighbours_and_replicas_stand_in_equal_places(four_ranks: Ranks):
    assert four_ranks.run(groups_of) == [
        ([0, 1], [0, 2]),
        ([0, 1], [1, 3]),
        ([2, 3], [0, 2]),
        ([2, 3], [1, 3]),
    ]


def save_midway(group: dist.ProcessGroup, root: str) -> Tables:
    """Save between two averages, as a trainer does."""
    sharding = ShardingConfig(replicas=2, sync_every=4, exact=False)
    model = sharded(group, ADAGRAD, sharding, Strategy.row_wise)
    sync = TableSync(model, group, sharding)
    size = BATCH // group.size()
    rows = slice(group.rank() * size, (group.rank() + 1) * size)
    for number in range(2):
        step(model, number, rows, float(group.size()))
        sync.after_step(number + 1)
    sync.now()
    save_checkpoint(
        Path(root), step=2, model=model, dense_optimizer=no_optimizer(), state={},
        job=job_over(group),
    )  # fmt: skip
    return arrays(gather_tables(model, group))


def no_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def test_a_checkpoint_holds_the_mean_and_is_read_by_one_process(
    four_ranks: Ranks, tmp_path: Path
):
    saved, *others = four_ranks.run(save_midway, str(tmp_path))
    assert all(str(other) == str(saved) for other in others)
    assert_equal(saved, train_groups_alone(ADAGRAD, 2, 4))
    model = local(ADAGRAD)
    (folder,) = tmp_path.iterdir()
    load_checkpoint(folder, model=model, dense_optimizer=None)
    for name, state in table_states(model).items():
        np.testing.assert_array_equal(state.weight.numpy(), saved[name]["weight"])


WHOLE = TablePlan(strategy=Strategy.table_wise, parts=(Part(0, 0, 7, 0, 4),))
REPLICAS = dataclasses.replace(WHOLE, strategy=Strategy.data_parallel)


@pytest.mark.parametrize(
    ("optimizer", "options", "named"),
    [
        (ADAGRAD, TableOptions(), "optimizer adagrad"),
        (dataclasses.replace(SGD, weight_decay=0.1), TableOptions(), "weight_decay"),
        (dataclasses.replace(SGD, clip_value=1.0), TableOptions(), "clip_value=1.0"),
        (SGD, TableOptions(max_norm=1.0), "max_norm=1.0"),
        (SGD, TableOptions(scale_grad_by_freq=True), "scale_grad_by_freq=true"),
        (SGD, TableOptions(dtype=TableDtype.float16), "rows of 16 bits"),
    ],
)
def test_what_has_no_exact_mean_is_refused_by_name(
    optimizer: SparseOptimizer, options: TableOptions, named: str
):
    config = table("t", 7, 4, ["a"], options=options)
    with pytest.raises(ConfigError) as caught:
        refuse_replicas(config, WHOLE, optimizer=optimizer, sharding=TWO)
    assert "sharding.replicas=2 trains table 't' with" in str(caught.value)
    assert named in str(caught.value)
    for plan, sharding in (
        (REPLICAS, TWO),
        (WHOLE, ShardingConfig(replicas=2, exact=False)),
        (WHOLE, ShardingConfig()),
    ):
        refuse_replicas(config, plan, optimizer=optimizer, sharding=sharding)


def test_counts_of_uses_have_no_mean_at_all():
    config = table("t", 7, 4, ["a"], options=TableOptions(admit_after=2))
    sharding = ShardingConfig(replicas=2, exact=False)
    with pytest.raises(ConfigError, match="does not go with admit_after=2"):
        refuse_replicas(config, WHOLE, optimizer=SGD, sharding=sharding)


def test_rare_averages_are_refused_as_inexact():
    with pytest.raises(ConfigError, match=r"sharding\.sync_every must be 1 unless"):
        ShardingConfig(replicas=2, sync_every=5)


def ask_for_three(group: dist.ProcessGroup) -> str:
    try:
        replica_groups(group, 3)
    except ConfigError as error:
        return str(error)
    return ""


def test_groups_must_be_equally_large(two_ranks: Ranks):
    (text, _) = two_ranks.run(ask_for_three)
    assert text == (
        "sharding.replicas must divide the number of processes, 2, but it is 3. "
        "Start as many as replicas times a whole number."
    )


def test_one_group_has_nothing_to_average():
    model = local(SGD)
    sync = TableSync(model, None, ShardingConfig())
    step(model, 0, slice(0, BATCH), 1.0)
    before = arrays(table_states(model))
    sync.after_step(1)
    sync.now()
    assert str(arrays(table_states(model))) == str(before)
