"""Training any model on one process, and with sharded tables on the ranks of a group.

Both see the same global batches; a rank takes its slice. A step is that of DESIGN: each
rank backpropagates W * sum(w l) / sum over ranks of w, and gradients are the mean.
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
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)

from dlrm.commands.code import import_code
from dlrm.config.embedding_init import EmbeddingInit, InitName
from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.config.sharding import Strategy
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from dlrm.embeddings.initial import InitialValues
from dlrm.embeddings.local import to_local
from dlrm.embeddings.names import table_name
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from dlrm.embeddings.state import table_states
from dlrm.models import build_model, model_config
from dlrm.models.branches import objective
from dlrm.models.task import ClickTask
from dlrm.optim.dense import dense_parameters
from tests.builders import random_rows, small_schema
from tests.models.harness import SGD, random_state

CPU = torch.device("cpu")
SLICES = ((5, 3), (2, 5), (4, 0))
"""Rows of both ranks' slices in each step; the shorter one is filled with padding."""
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


def every_kind_of_feature() -> FeatureSchema:
    """Return one-hot, multi-hot and weighted features of several widths.

    Poolings are sum, mean, max and attention; ``near`` and ``tags`` share a table.
    """
    bags = {"tags": 4, "seen": 8, "words": 3, "topics": 4}
    poolings = (Pooling.mean, Pooling.sum, Pooling.max, Pooling.attention)
    features = {"city": SparseFeature(embedding_dim=8)} | {
        name: SparseFeature(
            multi_hot=True,
            embedding_dim=width,
            pooling=pooling,
            weight_column="weight" if name in ("seen", "topics") else None,
        )
        for (name, width), pooling in zip(bags.items(), poolings, strict=True)
    }
    features["near"] = dataclasses.replace(features["tags"], pooling=Pooling.sqrtn)
    sparse = tuple(
        FittedSparse(
            name=name,
            feature=feature,
            table="tags" if name == "near" else name,
            num_embeddings=7,
        )
        for name, feature in features.items()
    )
    return dataclasses.replace(small_schema(num_dense=2, widths=()), sparse=sparse)


def train_alone(job: Job) -> Trained:
    """Train on the global batches without any sharding."""
    model = _meta_model(job)
    to_local(model, optimizer=SGD, device=CPU, initial=_initial_values())
    losses = _train(model, None)
    tables = {name: state.weight for name, state in table_states(model).items()}
    return _trained(model, losses, tables)


def train_sharded(group: dist.ProcessGroup, job: Job) -> Trained:
    """Train as one rank of ``group``."""
    model = _meta_model(job)
    to_sharded(
        model,
        strategies=_strategies(model, job.first),
        default=Strategy.table_wise,
        optimizer=SGD,
        group=group,
        device=CPU,
        initial=_initial_values(),
    )
    losses = _train(model, group)
    wholes = gather_tables(model, group)
    tables = {name: whole.weight for name, whole in wholes.items()}
    return _trained(model, losses, tables)


def train_sharded_in_turn(group: dist.ProcessGroup, job: Job) -> list[Trained]:
    """Train anew until each table has lain in each way."""
    return [
        train_sharded(group, dataclasses.replace(job, first=first))
        for first in range(len(STRATEGIES))
    ]


def _meta_model(job: Job) -> nn.Module:
    import_code(job.code)
    model = build_model(model_config(job.section), every_kind_of_feature())
    random_state(model)
    return model


def _initial_values() -> InitialValues:
    return InitialValues(
        seed=1,
        default=EmbeddingInit(name=InitName.normal, scale=0.3),
        row_keys=lambda vocabulary: np.arange(7, dtype=np.uint64),
    )


def _strategies(model: nn.Module, first: int) -> dict[str, Strategy]:
    tables = []
    for module in model.modules():
        if isinstance(module, EmbeddingBagCollection):
            tables += [config.name for config in module.embedding_bag_configs()]
        elif isinstance(module, EmbeddingCollection):
            tables += [config.name for config in module.embedding_configs()]
    turns = itertools.islice(itertools.cycle(STRATEGIES), first, None)
    return dict(zip(map(table_name, tables), turns, strict=False))


def _train(model: nn.Module, group: dist.ProcessGroup | None) -> list[float]:
    optimizer = torch.optim.SGD(dense_parameters(model), lr=0.1)
    return [
        _step(model, _batch(number, group), optimizer, group)
        for number in range(len(SLICES))
    ]


def _step(
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


def _batch(number: int, group: dist.ProcessGroup | None) -> Batch:
    """Return a step's global batch, or this rank's slice of it."""
    schema, sizes = every_kind_of_feature(), SLICES[number]
    rows = _rows(schema, sum(sizes), seed=number)
    if group is None or group.size() == 1:
        return collate(rows, np.arange(len(rows)), schema)
    bounds = [0, *itertools.accumulate(sizes)]
    own = list(rows.pieces(bounds))[group.rank()]
    row_ids = np.arange(len(own)) + bounds[group.rank()]
    return collate(own, row_ids, schema, batch_size=max(sizes))


def _rows(schema: FeatureSchema, num_rows: int, *, seed: int) -> EncodedRows:
    rows = random_rows(schema, num_rows=num_rows, seed=seed)
    random = np.random.default_rng(seed)
    return dataclasses.replace(
        rows,
        weights=random.uniform(0.5, 2.0, num_rows).astype(np.float32),
        bag_weights=random.uniform(0.5, 2.0, rows.bag_values.size).astype(np.float32),
    )


def _trained(
    model: nn.Module, losses: list[float], tables: dict[str, torch.Tensor]
) -> Trained:
    dense = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    return Trained(losses, dense, {k: t.numpy().copy() for k, t in tables.items()})
