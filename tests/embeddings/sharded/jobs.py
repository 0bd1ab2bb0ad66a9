"""What the ranks do, and what one process does to compare with.

A batch has two halves. One rank takes both, of several ranks the first two take one
each and the others none; one process takes their rows as one batch. The loss is half
the squared distance of the vectors to their targets, summed over real rows.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.sharding import ShardingConfig, Strategy
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from dlrm.distributed.plan import TablePlan
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.sharded.whole_tables import (
    WholeTable,
    gather_tables,
    load_tables,
)
from dlrm.embeddings.state import table_parts, table_states
from tests.embeddings.sharded.cases import (
    ROWS_PER_RANK,
    Case,
    attention_query,
    initial_values,
    place,
)
from tests.embeddings.sharded.forms import through

CPU = torch.device("cpu")


@dataclass
class Trained:
    """What training a case gave, of the rows in the order of the batches."""

    vectors: list[np.ndarray]
    """Of each step before its update, real rows of all ranks, [rows, widths]."""
    tables: dict[str, dict[str, np.ndarray]]
    """Weight, state and counters of each table, float32 whatever their type."""
    evaluated: np.ndarray
    """Vectors of the first batch in evaluation mode, after training."""
    replicas: dict[str, np.ndarray] = field(default_factory=dict)
    """This rank's own weights of its data-parallel tables."""


def train_locally(case: Case) -> Trained:
    """Train on one process, without any sharding."""
    model = _meta_model(case)
    to_local(model, optimizer=case.optimizer, device=CPU, initial=initial_values())
    if case.given:
        for table, state in table_states(model).items():
            state.weight.copy_(case.start()[table])
    vectors = _train(model["embeddings"], case, [0, 1], factor=1.0, padded=False)
    tables = {
        name: {"weight": state.weight, **state.optimizer}
        for name, state in table_states(model).items()
    }
    return Trained(vectors[:-1], _arrays(tables), vectors[-1])


def train_sharded(
    group: dist.ProcessGroup,
    case: Case,
    strategies: dict[str, Strategy],
    sharding: ShardingConfig | None = None,
    **tables: TablePlan,
) -> Trained:
    """Train as one rank of ``group``; ``tables`` have plans of their own."""
    model = _meta_model(case)
    plan = place(model, strategies, group.size())
    to_sharded(
        model,
        plan=dataclasses.replace(plan, tables=plan.tables | tables),
        optimizer=case.optimizer,
        group=group,
        device=CPU,
        initial=initial_values(),
        sharding=sharding,
    )
    if case.given:
        load_tables(
            model, {name: WholeTable({"weight": w}) for name, w in case.start().items()}
        )
    factor = float(group.size())
    halves = _halves(group)
    vectors = _train(model["embeddings"], case, halves, factor=factor, padded=True)
    tables = {
        name: whole.columns for name, whole in gather_tables(model, group).items()
    }
    replicas = {
        part.table: part.weight.float().numpy().copy()
        for part in table_parts(model)
        if part.strategy is Strategy.data_parallel
    }
    return Trained(vectors[:-1], _arrays(tables), vectors[-1], replicas)


def _meta_model(case: Case) -> nn.ModuleDict:
    torch.manual_seed(0)
    embeddings = FeatureEmbeddings(case.schema)
    for query in embeddings.queries.parameters():
        query.detach().copy_(attention_query(case.embedding_dim))
    return nn.ModuleDict({"embeddings": embeddings})


def _train(
    model: FeatureEmbeddings,
    case: Case,
    halves: list[int],
    *,
    factor: float,
    padded: bool,
) -> list[np.ndarray]:
    found = []
    for number in range(case.num_steps):
        sparse, target, real = _batch(case, number, halves, padded=padded)
        found.append(_step(model, sparse, target, real, factor=factor))
    model.eval()
    sparse, _, real = _batch(case, 0, halves, padded=padded)
    with torch.no_grad():
        found.append(torch.cat(model(sparse), dim=1)[real].numpy())
    return found


def _step(
    model: FeatureEmbeddings,
    sparse: dict[str, KeyedJaggedTensor],
    target: torch.Tensor,
    real: torch.Tensor,
    *,
    factor: float,
) -> np.ndarray:
    vectors = torch.cat(model(sparse), dim=1)
    loss = 0.5 * ((vectors - target)[real] ** 2).sum() * factor
    if loss.requires_grad:
        loss.backward()
    return vectors.detach()[real].numpy()


def step(
    model: FeatureEmbeddings, case: Case, number: int, group: dist.ProcessGroup
) -> None:
    """Take one step of ``train_sharded``."""
    _step(model, *batch_of(case, number, group), factor=float(group.size()))


def batch_of(
    case: Case, number: int, group: dist.ProcessGroup | None
) -> tuple[dict[str, KeyedJaggedTensor], torch.Tensor, torch.Tensor]:
    """Return a rank's slice of a step's batch; all of it where there is no group."""
    return _batch(case, number, _halves(group), padded=group is not None)


def _halves(group: dist.ProcessGroup | None) -> list[int]:
    if group is None or group.size() == 1:
        return [0, 1]
    return [group.rank()] if group.rank() < 2 else []


def _batch(
    case: Case, number: int, halves: list[int], *, padded: bool
) -> tuple[dict[str, KeyedJaggedTensor], torch.Tensor, torch.Tensor]:
    """Return some halves of a batch, their targets, and which rows are real."""
    parts, targets = case.rows(number), case.targets(number)
    none, width = next(parts[0].pieces([0, 0])), targets.shape[2]
    rows = _join([none, *(parts[half] for half in halves)])
    size = ROWS_PER_RANK * max(len(halves), 1) if padded else len(rows)
    own = [targets[half][: len(parts[half])] for half in halves]
    target = np.concatenate([np.zeros((0, width), dtype=np.float32), *own])
    batch = collate(rows, np.arange(len(rows)), case.schema, batch_size=size)
    real = torch.arange(size) < len(rows)
    padding = np.zeros((size - len(rows), width), dtype=np.float32)
    sparse = {name: through(case.form, bags) for name, bags in batch.sparse.items()}
    return sparse, torch.from_numpy(np.concatenate([target, padding])), real


def _join(parts: list[EncodedRows]) -> EncodedRows:
    names = EncodedRows.__dataclass_fields__
    return EncodedRows(
        **{
            name: None
            if getattr(parts[0], name) is None
            else np.concatenate([getattr(part, name) for part in parts])
            for name in names
        }
    )


def _arrays(
    tables: dict[str, dict[str, torch.Tensor]],
) -> dict[str, dict[str, np.ndarray]]:
    return {
        table: {name: values.float().numpy().copy() for name, values in columns.items()}
        for table, columns in tables.items()
    }
