"""One step of a small model on the ranks of a group: what its tensors really take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.config.optimizer import DenseOptimizer, SparseOptimizer, SparseOptimizerName
from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.config.sharding import Strategy
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from dlrm.distributed.plan import Plan
from dlrm.embeddings.sharded.placement import plan_by_strategy
from dlrm.embeddings.sharded.swap import to_sharded
from dlrm.embeddings.state import table_parts
from dlrm.models import build_model, model_config
from dlrm.optim.dense import build_dense_optimizer, dense_parameters
from dlrm.planning.dense_part import saved_storages
from dlrm.planning.table_loads import table_loads

LOCAL_BATCH_SIZE = 512
AVERAGE_LENGTHS = {"bags": 5.0, "ends": 5.0}
ROWS = {"whole": 3000, "bags": 5001, "columns": 400, "everywhere": 50, "ends": 700}
DIM = 16
SPARSE = SparseOptimizer(name=SparseOptimizerName.adagrad, lr=0.1)
DENSE = DenseOptimizer(name="Adam")
SECTION = {
    "name": "dlrm_dcnv2",
    "embedding_dim": DIM,
    "bottom_mlp": [64, 32],
    "top_mlp": [96, 32],
    "cross_rank": 24,
}
TWO_RANKS = {
    "whole": Strategy.table_wise,
    "bags": Strategy.row_wise,
    "columns": Strategy.column_wise,
    "everywhere": Strategy.data_parallel,
    "ends": Strategy.table_wise,
}
TWO_NODES = {
    "whole": Strategy.table_row_wise,
    "bags": Strategy.grid,
    "columns": Strategy.table_column_wise,
    "everywhere": Strategy.data_parallel,
    "ends": Strategy.table_row_wise,
}
"""For four ranks, two a node."""


@dataclass(frozen=True)
class Measured:
    """Bytes of one rank."""

    weights: int
    optimizer: int
    communication: int
    """All tensors that collectives read or wrote in the step, each storage once."""
    activations: int
    """What autograd kept and neither a table, a parameter nor a collective's is."""
    dense_parameters: int
    dense_gradients: int
    dense_optimizer: int


def schema() -> FeatureSchema:
    return FeatureSchema(
        name="measured",
        label="label",
        dense=tuple(
            FittedDense(name=f"d{i}", feature=DenseFeature()) for i in range(13)
        ),
        sparse=tuple(
            FittedSparse(
                name=name,
                feature=SparseFeature(
                    multi_hot=name in AVERAGE_LENGTHS, embedding_dim=DIM
                ),
                table=name,
                num_embeddings=rows,
            )
            for name, rows in ROWS.items()
        ),
    )


def meta_model() -> torch.nn.Module:
    return build_model(model_config(SECTION), schema())


def configs_of(model: torch.nn.Module) -> list[Any]:
    return [load.config for load in table_loads(model, SPARSE, {}).values()]


def plan_of(
    model: torch.nn.Module, strategies: dict[str, Strategy], world_size: int
) -> Plan:
    return plan_by_strategy(
        configs_of(model),
        strategies,
        Strategy.table_wise,
        world_size=world_size,
        ranks_per_node=2,
    )


def measure(group: dist.ProcessGroup, strategies: dict[str, Strategy]) -> Measured:
    """Take one step as a rank of ``group``."""
    model = meta_model()
    to_sharded(
        model,
        plan=plan_of(model, strategies, group.size()),
        optimizer=SPARSE,
        group=group,
        device=torch.device("cpu"),
    )
    parameters = dense_parameters(model)
    optimizer = build_dense_optimizer(parameters, DENSE)
    batch = _batch(group.rank())
    with _Collectives() as mode:
        exchanged = mode.tensors
        logits, saved = saved_storages(lambda: model(batch))
        # Before backward, which frees what was saved: its memory is used again.
        known = set(exchanged) | {_address(p) for p in parameters}
        for part in table_parts(model):
            known |= {_address(tensor) for tensor in part.columns.values()}
        logits.sum().backward()
    optimizer.step()
    return Measured(
        weights=sum(_size(part.weight) for part in table_parts(model)),
        optimizer=sum(
            _size(tensor)
            for part in table_parts(model)
            for name, tensor in part.columns.items()
            if name != "weight"
        ),
        communication=sum(_size(tensor) for tensor in exchanged.values()),
        activations=sum(size for at, size in saved.items() if at not in known),
        dense_parameters=sum(_size(p) for p in parameters),
        dense_gradients=sum(_size(p.grad) for p in parameters if p.grad is not None),
        dense_optimizer=sum(
            _size(value)
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ),
    )


def _batch(rank: int) -> Batch:
    random = np.random.default_rng(rank)
    sizes = [rows for name, rows in ROWS.items() if name not in AVERAGE_LENGTHS]
    bags = [ROWS[name] for name in AVERAGE_LENGTHS]
    count = LOCAL_BATCH_SIZE
    values = [random.integers(0, rows, (count, 5), dtype=np.int32) for rows in bags]
    rows = EncodedRows(
        labels=np.zeros(count, dtype=np.float32),
        weights=np.ones(count, dtype=np.float32),
        dense=random.normal(size=(count, 13)).astype(np.float32),
        one_hot=np.stack(
            [random.integers(0, size, count, dtype=np.int32) for size in sizes], axis=1
        ),
        bag_lengths=np.full((count, len(bags)), 5, dtype=np.int32),
        bag_values=np.concatenate(values, axis=1).reshape(-1),
    )
    return collate(rows, np.arange(count, dtype=np.int64), schema())


class _Collectives(TorchDispatchMode):
    """Keeps every tensor that a collective reads or writes."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[int, torch.Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "c10d":
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, torch.Tensor) and leaf.numel():
                    self.tensors[_address(leaf)] = leaf
        return func(*args, **(kwargs or {}))


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
