"""Batches sent ahead: what is trained is what a loop without a pipeline trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchrec.streamable import Pipelineable

from dlrm.config.errors import BadIdError
from dlrm.config.table_options import Compression, CompressionMethod, TableOptions
from dlrm.data.batch import Batch
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.models import build_model, model_config
from dlrm.optim.dense import dense_parameters
from dlrm.pipeline import BatchPipeline
from tests.builders import random_batch
from tests.embeddings.sharded.cases import initial_values, place
from tests.embeddings.sharded.ranks import RankError, Ranks
from tests.models.harness import CLICK_MODELS, SGD, build, mixed_schema, preset
from tests.models.sharded_jobs import (
    CPU,
    Job,
    sharded_model,
    table_arrays,
    train_step,
)
from tests.models.sharded_slices import SLICES, batch_of
from tests.models.test_family_sharded import TOWERS

pytestmark = pytest.mark.xdist_group("ranks")
MODELS = ["dlrm", "dcnv2", "deepfm", "two_tower"]
QUOTIENT = CompressionMethod.quotient_remainder


@dataclass
class Trained:
    """What training gave on one rank."""

    losses: list[float]
    evaluated: list[np.ndarray]
    """Logits of the same batch after each step."""
    tables: dict[str, np.ndarray]
    num_pipelined: int


def train(
    group: dist.ProcessGroup, job: Job, ahead: bool, num_epochs: int = 2
) -> Trained:
    """Train epoch after epoch, evaluating after every step."""
    model = sharded_model(group, job)
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    pipeline = BatchPipeline(model, CPU, ahead=ahead)
    found = Trained([], [], {}, 0)
    for _ in range(num_epochs):
        for batch in pipeline.batches(batches_of(group)):
            found.losses.append(train_step(model, batch, optimizer, group))
            found.evaluated.append(evaluate(model, batch_of(0, group)))
    found.tables = table_arrays(model, group)
    found.num_pipelined = pipeline.num_pipelined
    return found


def batches_of(group: dist.ProcessGroup) -> list[Batch]:
    return [batch_of(number, group) for number in range(len(SLICES))]


def evaluate(model: nn.Module, batch: Batch) -> np.ndarray:
    model.eval()
    with torch.no_grad():
        logits = model(batch).numpy().copy()
    model.train()
    return logits


@pytest.mark.parametrize("name", MODELS)
def test_training_is_the_same_to_the_bit(name: str, ranks: Ranks):
    job = Job(preset(name, **(TOWERS if name == "two_tower" else {})))
    plain = ranks.run(train, job, False)
    ahead = ranks.run(train, job, True)
    for one, other in zip(plain, ahead, strict=True):
        assert one.num_pipelined == 0
        assert other.num_pipelined >= 2
        assert one.losses == other.losses
        assert len(one.losses) == 2 * len(SLICES)
        for expected, got in zip(one.evaluated, other.evaluated, strict=True):
            np.testing.assert_array_equal(got, expected)
        for table, weight in one.tables.items():
            np.testing.assert_array_equal(other.tables[table], weight)


def test_a_model_whose_ids_cannot_be_sent_ahead_trains_all_the_same(two_ranks: Ranks):
    job = Job(preset("logistic_regression"))
    (plain, _), (ahead, _) = (
        two_ranks.run(train, job, False),
        two_ranks.run(train, job, True),
    )
    assert ahead.num_pipelined == 0
    assert ahead.losses == plain.losses


class Undecided(nn.Module):
    """Decides by values, which torch.fx has none of."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        logits = self.model(batch)
        return logits * 2.0 if float(logits.detach().sum()) > 0.0 else logits


def train_undecided(group: dist.ProcessGroup, job: Job, ahead: bool):
    model = Undecided(sharded_model(group, job))
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    lines: list[str] = []
    pipeline = BatchPipeline(model, CPU, ahead=ahead, report=lines.append)
    losses = [
        train_step(model, batch, optimizer, group)
        for batch in pipeline.batches(batches_of(group))
    ]
    return losses, lines


def test_a_model_that_cannot_be_traced_trains_all_the_same(two_ranks: Ranks):
    job = Job(preset("dlrm"))
    plain = two_ranks.run(train_undecided, job, False)
    ahead = two_ranks.run(train_undecided, job, True)
    assert [losses for losses, _ in ahead] == [losses for losses, _ in plain]
    for _, (line,) in ahead:
        assert line.startswith("Ids are not sent ahead, as torch.fx cannot trace the")


def train_simply(
    group: dist.ProcessGroup, name: str, tables: dict[str, TableOptions], ahead: bool
) -> tuple[list[float], int]:
    """Train a model of one group of features; return losses and what is pipelined."""
    schema = dataclasses.replace(mixed_schema(), table_options=tables)
    torch.manual_seed(0)
    model = build_model(model_config(preset(name)), schema)
    to_sharded(
        model,
        plan=place(model, {}, group.size()),
        optimizer=SGD,
        group=group,
        device=CPU,
        initial=initial_values(),
    )
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    pipeline = BatchPipeline(model, CPU, ahead=ahead)
    seeds = [3 * group.rank() + seed for seed in range(3)]
    batches = [random_batch(schema, num_rows=5, seed=seed) for seed in seeds]
    losses = [
        train_step(model, batch, optimizer, group)
        for batch in pipeline.batches(batches)
    ]
    return losses, pipeline.num_pipelined


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_every_model_of_one_group_of_features_is_sent_ahead(name: str, one_rank: Ranks):
    ((plain, _),) = one_rank.run(train_simply, name, {}, False)
    ((ahead, num_pipelined),) = one_rank.run(train_simply, name, {}, True)
    assert ahead == plain
    # First-order weights and vectors are a collection each.
    assert num_pipelined >= 1


@pytest.mark.parametrize(
    "options",
    [
        TableOptions(padding_idx=0),
        TableOptions(compression=Compression(method=QUOTIENT)),
        TableOptions(max_norm=1.0),
    ],
    ids=["padding", "compression", "max_norm"],
)
def test_options_that_change_ids_train_all_the_same(
    options: TableOptions, two_ranks: Ranks
):
    tables = {"s2": options}
    plain = two_ranks.run(train_simply, "dcnv2", tables, False)
    ahead = two_ranks.run(train_simply, "dcnv2", tables, True)
    assert [losses for losses, _ in ahead] == [losses for losses, _ in plain]


def stop_in_between(group: dist.ProcessGroup, job: Job) -> list[float]:
    """Leave an epoch after its first step, then train a whole one."""
    model = sharded_model(group, job)
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    pipeline = BatchPipeline(model, CPU, ahead=True)
    losses = []
    for batch in pipeline.batches(batches_of(group)):
        losses.append(train_step(model, batch, optimizer, group))
        break
    for batch in pipeline.batches(batches_of(group)[1:]):
        losses.append(train_step(model, batch, optimizer, group))
    return losses


def test_an_epoch_may_be_left_and_another_begun(two_ranks: Ranks):
    job = Job(preset("dlrm"))
    left = two_ranks.run(stop_in_between, job)
    plain = two_ranks.run(train, job, False, 1)
    assert left == [one.losses for one in plain]


def send_a_bad_id(group: dist.ProcessGroup, job: Job) -> None:
    batches = batches_of(group)
    pooled = batches[1].sparse["pooled"]
    pooled.values()[0] = 99
    model = sharded_model(group, job)
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    seen: list[int] = []

    @contextmanager
    def errors_of(batch: Batch) -> Iterator[None]:
        try:
            yield
        except BadIdError as error:
            wrong = batch is batches[1] or torch.equal(
                batch.row_ids, batches[1].row_ids
            )
            raise ValueError(f"named {wrong} after {len(seen)} steps") from error

    pipeline = BatchPipeline(model, CPU, ahead=True)
    for batch in pipeline.batches(batches, errors_of=errors_of):
        train_step(model, batch, optimizer, group)
        seen.append(1)


def test_an_error_of_a_batch_sent_ahead_is_known_as_its_own(two_ranks: Ranks):
    with pytest.raises(RankError, match="named True after 0 steps"):
        two_ranks.run(send_a_bad_id, Job(preset("dlrm")))


def test_one_process_has_nothing_to_send():
    model = build(mixed_schema(), preset("dlrm"))
    batches = [random_batch(mixed_schema(), num_rows=3, seed=seed) for seed in (1, 2)]
    pipeline = BatchPipeline(model, CPU, ahead=True)
    found = []
    for batch in pipeline.batches(batches):
        model(batch).sum().backward()
        found.append(batch.row_ids.tolist())
    assert found == [batch.row_ids.tolist() for batch in batches]
    assert pipeline.num_pipelined == 0
    assert list(pipeline.batches([])) == []


def test_a_cpu_gets_batches_as_they_come():
    model = build(mixed_schema(), preset("dlrm"))
    batches = [random_batch(mixed_schema(), num_rows=3)]
    (found,) = BatchPipeline(model, CPU).batches(batches)
    assert found is batches[0]


def test_a_batch_is_what_torchrecs_pipelines_take():
    assert issubclass(Batch, Pipelineable)
