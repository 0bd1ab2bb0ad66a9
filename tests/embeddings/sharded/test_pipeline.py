"""torchrec's pipeline sends the next batch's ids while this one is trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

from dlrm.config.features import Pooling
from dlrm.config.sharding import Strategy
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from tests.embeddings.sharded.cases import Case, initial_values, place, strategies
from tests.embeddings.sharded.jobs import CPU, batch_of, train_locally
from tests.embeddings.sharded.ranks import Ranks


class Slice(Pipelineable):
    """One rank's part of a step's batch."""

    def __init__(
        self,
        sparse: dict[str, KeyedJaggedTensor],
        target: torch.Tensor,
        real: torch.Tensor,
    ) -> None:
        self.sparse, self.target, self.real = sparse, target, real

    def to(self, device: torch.device, non_blocking: bool = False) -> Slice:
        return self

    def record_stream(self, stream: torch.Stream) -> None: ...

    def pin_memory(self) -> Slice:
        return self


class Model(nn.Module):
    """The loss of the other tests, and a dense parameter for the pipeline's sake."""

    def __init__(self, embeddings: FeatureEmbeddings, factor: float) -> None:
        super().__init__()
        self.embeddings, self.factor = embeddings, factor
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Slice) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = torch.cat(self.embeddings(batch.sparse), dim=1) + 0.0 * self.bias
        loss = 0.5 * ((vectors - batch.target)[batch.real] ** 2).sum() * self.factor
        return loss, vectors


def train_pipelined(
    group: dist.ProcessGroup, case: Case, strategy: Strategy
) -> tuple[int, dict[str, np.ndarray]]:
    model = Model(FeatureEmbeddings(case.schema), float(group.size()))
    to_sharded(
        model,
        plan=place(model, strategies(strategy), group.size()),
        optimizer=case.optimizer,
        group=group,
        device=CPU,
        initial=initial_values(),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pipeline = TrainPipelineSparseDist(model, optimizer, CPU)
    batches: Iterator[Slice] = iter(
        [Slice(*batch_of(case, number, group)) for number in range(case.num_steps)]
    )
    for _ in range(case.num_steps):
        pipeline.progress(batches)
    tables = gather_tables(model, group)
    return len(pipeline._pipelined_modules), {
        name: whole.weight.numpy() for name, whole in tables.items()
    }


@pytest.mark.parametrize(
    ("strategy", "pooling"),
    [
        *itertools.product(
            (Strategy.table_wise, Strategy.row_wise),
            (Pooling.sum, Pooling.mean, Pooling.max),
        ),
        (Strategy.column_wise, Pooling.max),
        (Strategy.table_column_wise, Pooling.sum),
        (Strategy.table_row_wise, Pooling.mean),
        (Strategy.grid, Pooling.mean),
    ],
)
def test_pipelined_training_is_that_of_one_process(
    strategy: Strategy, pooling: Pooling, two_ranks: Ranks
):
    case = Case(pooling=pooling)
    expected = train_locally(case).tables
    for num_pipelined, tables in two_ranks.run(train_pipelined, case, strategy):
        assert num_pipelined >= 1
        for name, weight in tables.items():
            np.testing.assert_allclose(
                weight, expected[name]["weight"], rtol=1e-5, atol=1e-6
            )
