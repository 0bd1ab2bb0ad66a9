"""torchrec's pipeline, which traces a model to send its next ids ahead, takes any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.streamable import Pipelineable

from dlrm.data.batch import Batch
from dlrm.models.branches import objective
from dlrm.models.task import ClickTask
from tests.embeddings.sharded.ranks import Ranks
from tests.models.harness import CLICK_MODELS, preset
from tests.models.sharded_jobs import CPU, Job, sharded_model, table_arrays, train_alone
from tests.models.sharded_slices import SLICES, batch_of

pytestmark = pytest.mark.xdist_group("ranks")


class WithLoss(nn.Module):
    """What the pipeline wants of a model: its loss, and anything."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.task = model, ClickTask()

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.model(batch)
        loss_sum, weight_sum = self.task.loss_sum(logits, batch)
        loss = objective(
            self.model,
            loss_sum,
            weight_sum,
            branch_loss_sum=lambda branch: self.task.loss_sum(branch, batch)[0],
        )
        return loss, logits


def train_pipelined(
    group: dist.ProcessGroup, job: Job
) -> tuple[int, dict[str, np.ndarray]]:
    Pipelineable.register(Batch)
    model = sharded_model(group, job)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pipeline = TrainPipelineSparseDist(WithLoss(model), optimizer, CPU)
    batches = iter([batch_of(number, group) for number in range(len(SLICES))])
    for _ in SLICES:
        pipeline.progress(batches)
    return len(pipeline._pipelined_modules), table_arrays(model, group)


@pytest.mark.parametrize("name", CLICK_MODELS)
def test_a_pipelined_model_is_trained_as_one_process_does(name: str, one_rank: Ranks):
    job = Job(preset(name))
    ((num_pipelined, tables),) = one_rank.run(train_pipelined, job)
    # Bags under max and attention are means to tables of first-order terms, which read
    # several groups of the batch as one: only a whole group can be sent ahead.
    assert num_pipelined == (0 if name == "logistic_regression" else 3)
    for table, values in train_alone(job).tables.items():
        np.testing.assert_allclose(tables[table], values, rtol=1e-5, atol=1e-5)
