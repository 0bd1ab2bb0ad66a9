"""Training any model on one process, and with sharded tables on the ranks of a group.

Both see the same global batches; a rank takes its slice. Each of W ranks backpropagates
W * sum(w l) / sum over ranks of w; gradients are then the mean over the ranks.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from dlrm.commands.code import import_code
from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.config.sharding import Strategy
from dlrm.data.batch import Batch
from dlrm.distributed.plan import Plan
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import to_local
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.embeddings.sharded.swap import collection_configs, to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from dlrm.embeddings.state import table_states
from dlrm.models import build_model, model_config
from dlrm.models.branches import objective
from dlrm.models.task import ClickTask
from dlrm.optim.dense import dense_parameters
from tests.models.harness import SGD, random_state
from tests.models.sharded_slices import (
    NUM_EMBEDDINGS,
    SLICES,
    batch_of,
    every_kind_of_feature,
)

CPU = torch.device("cpu")
STRATEGIES = (Strategy.table_wise, Strategy.row_wise, Strategy.data_parallel)


@dataclass(frozen=True)
class Job:
    """A model and how its tables lie. Travels to the ranks."""

    section: dict[str, object]
    first: int = 0
    """Which of ``STRATEGIES`` the first table has; the next ones follow in turn."""
    code: tuple[Path, ...] = ()
    """Files to import before the model is built, as ``--code`` does."""


@dataclass
class Trained:
    """What training gave, the same on every rank."""

    losses: list[float]
    """Mean over each step's global batch, before its update."""
    dense: dict[str, np.ndarray]
    tables: dict[str, np.ndarray]


def train_alone(job: Job) -> Trained:
    """Train on the global batches without any sharding."""
    model = _meta_model(job)
    to_local(model, optimizer=SGD, device=CPU, initial=_initial_values())
    losses = _train(model, None)
    states = table_states(model).items()
    tables = {name: state.weight.numpy().copy() for name, state in states}
    return Trained(losses, _dense_arrays(model), tables)


def train_sharded(group: dist.ProcessGroup, job: Job) -> Trained:
    """Train as one rank of ``group``."""
    model = sharded_model(group, job)
    losses = _train(model, group)
    return Trained(losses, _dense_arrays(model), table_arrays(model, group))


def train_sharded_in_turn(group: dist.ProcessGroup, job: Job) -> list[Trained]:
    """Train anew until each table has lain in each way."""
    return [
        train_sharded(group, dataclasses.replace(job, first=first))
        for first in range(len(STRATEGIES))
    ]


def sharded_model(group: dist.ProcessGroup, job: Job) -> nn.Module:
    """Return the model with its tables over the ranks of ``group``."""
    model = _meta_model(job)
    to_sharded(
        model,
        plan=_plan(model, job.first, group.size()),
        optimizer=SGD,
        group=group,
        device=CPU,
        initial=_initial_values(),
    )
    return model


def table_arrays(model: nn.Module, group: dist.ProcessGroup) -> dict[str, np.ndarray]:
    """Return every table, gathered from the ranks."""
    wholes = gather_tables(model, group)
    return {name: whole.weight.numpy() for name, whole in wholes.items()}


def _meta_model(job: Job) -> nn.Module:
    import_code(job.code)
    model = build_model(model_config(job.section), every_kind_of_feature())
    random_state(model)
    return model


def _initial_values() -> InitialValues:
    return InitialValues(
        seed=1,
        default=EmbeddingInit(name=InitName.normal, scale=0.3),
        row_keys=lambda vocabulary: np.arange(NUM_EMBEDDINGS, dtype=np.uint64),
    )


def _plan(model: nn.Module, first: int, world_size: int) -> Plan:
    configs = collection_configs(model)
    turns = itertools.islice(itertools.cycle(STRATEGIES), first, None)
    tables = [table_name(config.name) for config in configs]
    return plan_by_strategy(
        configs,
        dict(zip(tables, turns, strict=False)),
        Strategy.table_wise,
        world_size=world_size,
        ranks_per_node=world_size,
    )


def _train(model: nn.Module, group: dist.ProcessGroup | None) -> list[float]:
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    return [
        train_step(model, batch_of(number, group), optimizer, group)
        for number in range(len(SLICES))
    ]


def train_step(
    model: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    group: dist.ProcessGroup | None,
) -> float:
    def over_ranks(sums: torch.Tensor) -> torch.Tensor:
        total = sums.detach().clone()
        if group is not None:
            dist.all_reduce(total, group=group)
        return total

    world_size = 1 if group is None else group.size()
    task = ClickTask()
    loss_sum, own_weight = task.loss_sum(_logits(model, batch), batch)
    weight_sum = over_ranks(own_weight)
    loss = objective(
        model,
        loss_sum,
        weight_sum,
        branch_loss_sum=lambda branch: task.loss_sum(branch, batch)[0],
        over_ranks=over_ranks,
    )
    optimizer.zero_grad(set_to_none=True)
    (world_size * loss).backward()
    for parameter in dense_parameters(model):
        assert parameter.grad is not None
        parameter.grad = over_ranks(parameter.grad) / world_size
    optimizer.step()
    return float(over_ranks(loss_sum) / weight_sum)


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return logits [B, 1]; of two towers, their vectors' products."""
    found: torch.Tensor = model(batch)
    return found.prod(dim=1).sum(dim=1, keepdim=True) if found.dim() == 3 else found


def _dense_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
