"""Twenty steps on global batches, cut into uneven slices for any number of ranks.

The loss is half the squared distance of the vectors to their targets, the mean over all
rows of the global batch.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.features import Pooling, SparseFeature
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.config.sharding import Strategy
from dlrm.config.table_options import TableOptimizer, TableOptions
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from dlrm.embeddings.features import FeatureEmbeddings
from dlrm.embeddings.local import to_local
from dlrm.embeddings.sharded.placement import BY_COLUMNS
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.sharded.whole_tables import gather_tables
from dlrm.embeddings.state import table_states
from tests.builders import random_rows
from tests.embeddings.sharded.cases import initial_values, place

CPU = torch.device("cpu")
NUM_STEPS = 20
OPTIMIZERS = {
    "sgd": 0.02,
    "adagrad": 0.1,
    "rowwise_adagrad": 0.1,
    "adam": 0.05,
}
"""Learning rates: each optimizer has tables of its own, side by side in one model."""
_DEFAULT = SparseOptimizer(eps=1e-2)
Tables = dict[str, dict[str, np.ndarray]]
"""Weight and optimizer state of each table."""


def schema() -> FeatureSchema:
    """Return features pooled in each way, of widths that no kernel likes, too.

    ``near`` and ``far`` share a table; ``seen`` is weighted; the rows of ``top`` are
    looked up one by one.
    """
    features = [
        ("near", "shared", 8, 11, Pooling.sum),
        ("far", "shared", 8, 11, Pooling.sum),
        ("mean", "mean", 8, 7, Pooling.mean),
        ("odd", "odd", 7, 5, Pooling.sum),
        ("seen", "seen", 12, 9, Pooling.sum),
        ("top", "top", 4, 6, Pooling.max),
    ]
    multi_hot = [
        FittedSparse(
            name=f"{name}_{optimizer}",
            feature=SparseFeature(
                multi_hot=True,
                embedding_dim=dim,
                pooling=pooling,
                weight_column="weight" if name == "seen" else None,
            ),
            table=f"{table}_{optimizer}",
            num_embeddings=rows,
        )
        for optimizer in OPTIMIZERS
        for name, table, dim, rows, pooling in features
    ]
    one_hot = FittedSparse(
        name="one",
        feature=SparseFeature(embedding_dim=4),
        table="one_sgd",
        num_embeddings=3,
    )
    sparse = (*multi_hot, one_hot)
    return FeatureSchema(
        name="steps",
        label="label",
        dense=(),
        sparse=sparse,
        table_options={f.table: _options(f.table) for f in sparse},
    )


def _options(table: str) -> TableOptions:
    name = table.partition("_")[2]
    own = TableOptimizer(name=SparseOptimizerName(name), lr=OPTIMIZERS[name])
    return TableOptions(optimizer=own)


def train_alone() -> Tables:
    """Train on the global batches in one process, without any sharding."""
    model = _model()
    to_local(model, optimizer=_DEFAULT, device=CPU, initial=initial_values())
    for step in range(NUM_STEPS):
        _step(model["embeddings"], step, None)
    return {
        name: {key: values.numpy().copy() for key, values in state.columns.items()}
        for name, state in table_states(model).items()
    }


def train_sharded(
    group: dist.ProcessGroup, strategy: Strategy, ranks_per_node: int
) -> Tables:
    """Train as one rank of ``group``, and gather the tables.

    What ``strategy`` refuses lies by rows; see ``try_rowwise``.
    """
    model = _model()
    chosen = {}
    for name in OPTIMIZERS:
        if strategy in (Strategy.table_row_wise, Strategy.grid):
            chosen[f"top_{name}"] = Strategy.row_wise
    if strategy in BY_COLUMNS:
        chosen |= {t: Strategy.row_wise for t in schema().tables if "rowwise" in t}
    _shard(group, model, strategy, ranks_per_node, chosen)
    for step in range(NUM_STEPS):
        _step(model["embeddings"], step, group)
    return {
        name: {key: values.numpy() for key, values in whole.columns.items()}
        for name, whole in gather_tables(model, group).items()
    }


def try_rowwise(group: dist.ProcessGroup, strategy: Strategy) -> str:
    """Return why ``strategy`` refuses tables with one state a row."""
    with pytest.raises(ConfigError) as caught:
        _shard(group, _model(), strategy, group.size(), {})
    return str(caught.value)


def _shard(
    group: dist.ProcessGroup,
    model: nn.Module,
    strategy: Strategy,
    ranks_per_node: int,
    chosen: dict[str, Strategy],
) -> None:
    # More ranges of columns than there are ranks, and of several widths.
    ranges = {f"seen_{name}": 6 for name in OPTIMIZERS} | {"top_sgd": 2}
    plan = place(model, chosen, group.size(), strategy, ranks_per_node, **ranges)
    to_sharded(
        model,
        plan=plan,
        optimizer=_DEFAULT,
        group=group,
        device=CPU,
        initial=initial_values(),
    )


def _model() -> nn.ModuleDict:
    return nn.ModuleDict({"embeddings": FeatureEmbeddings(schema())})


def _step(model: FeatureEmbeddings, step: int, group: dist.ProcessGroup | None) -> None:
    num_ranks = 1 if group is None else group.size()
    rows, targets, bounds = _global_batch(step, num_ranks)
    rank = 0 if group is None else group.rank()
    own = list(rows.pieces(bounds))[rank]
    size = max(stop - start for start, stop in itertools.pairwise(bounds))
    batch = collate(own, np.arange(len(own)), schema(), batch_size=size)
    vectors = torch.cat(model(batch.sparse), dim=1)[: len(own)]
    target = torch.from_numpy(targets[bounds[rank] : bounds[rank + 1]])
    (0.5 * num_ranks / len(rows) * ((vectors - target) ** 2).sum()).backward()


def _global_batch(
    step: int, num_ranks: int
) -> tuple[EncodedRows, np.ndarray, list[int]]:
    """Return a step's rows, their targets, and where each rank's slice begins."""
    random = np.random.default_rng(step)
    num_rows = int(random.integers(1, 12))
    rows = random_rows(schema(), num_rows=num_rows, seed=step)
    weights = random.uniform(0.5, 2.0, rows.bag_values.size).astype(np.float32)
    rows = dataclasses.replace(rows, bag_weights=weights)
    width = sum(f.feature.embedding_dim or 0 for f in schema().sparse)
    targets = random.normal(size=(num_rows, width)).astype(np.float32)
    cuts = np.random.default_rng(100 + step).integers(0, num_rows + 1, num_ranks - 1)
    return rows, targets, [0, *sorted(map(int, cuts)), num_rows]
