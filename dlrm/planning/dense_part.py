"""Everything of a model but its tables: bytes, and operations of a step, measured.

The model is run forward and backward on three tiny batches on the CPU, with vectors of
zeros in place of lookups. Bytes that autograd keeps and operations of matrix products
are then known for any batch: they are a polynomial of degree 2 in the batch size at
most (degree 2 for losses and attention over the batch), through three points.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor, KeyedTensor

from dlrm.config.optimizer import DenseOptimizer
from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.data.loading.collate import collate
from dlrm.data.storage.rows import EncodedRows
from dlrm.optim.dense import build_dense_optimizer, dense_parameters

_BATCH_SIZES = (4, 8, 12)
_ELEMENT_BYTES = 4
"""Of a number of a vector."""


@dataclass(frozen=True, slots=True)
class Polynomial:
    """What grows with the batch: the polynomial of degree 2 through three points."""

    points: tuple[tuple[int, int], ...] = ((0, 0),)

    def at(self, x: int) -> int:
        """Return the value at ``x``, rounded, at least 0 (Lagrange)."""
        total = Fraction(0)
        for place, (x_i, y_i) in enumerate(self.points):
            term = Fraction(y_i)
            for other, (x_j, _) in enumerate(self.points):
                if other != place:
                    term *= Fraction(x - x_j, x_i - x_j)
            total += term
        return max(round(total), 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class DensePart:
    """What a process holds and computes of a model beside its tables."""

    parameter_bytes: int = 0
    optimizer_bytes: int = 0
    saved: Polynomial = Polynomial()
    """Bytes that autograd keeps, by the process's batch size."""
    flops: Polynomial = Polynomial()
    """Operations of forward and backward, by the process's batch size."""
    note: str = ""
    """Why activations and operations are unknown, where they are."""

    def activation_bytes(self, local_batch_size: int) -> int:
        """Return the bytes that autograd keeps between forward and backward."""
        return self.saved.at(local_batch_size)


def measure_dense_part(
    model: nn.Module,
    schema: FeatureSchema | None,
    *,
    optimizer: DenseOptimizer,
    average_lengths: Mapping[str, float],
) -> DensePart:
    """Measure a model whose tables are torchrec's plain collections.

    Args:
        model: Left as it is.
        schema: Its input's; without one, activations and operations are left out.
        optimizer: Of the dense parameters.
        average_lengths: Ids a row of features, by name; 1 where not given.
    """
    model = copy.deepcopy(model)
    _replace_collections(model)
    model.cpu().train()
    parameters = dense_parameters(model)
    size = sum(p.numel() * p.element_size() for p in parameters)
    note, saved, flops = "", Polynomial(), Polynomial()
    if schema is None:
        note = "the schema of the model's input is not known"
    else:
        try:
            # Dropout must not draw from what training draws from.
            with torch.random.fork_rng(devices=[]):
                runs = [
                    _run(model, _batch(schema, average_lengths, num_rows))
                    for num_rows in _BATCH_SIZES
                ]
            saved = Polynomial(_points(s for s, _ in runs))
            flops = Polynomial(_points(f for _, f in runs))
        except Exception as error:  # A user's model may do anything.
            note = f"the model did not run on vectors of zeros: {error}"
    return DensePart(
        parameter_bytes=size,
        optimizer_bytes=_state_bytes(parameters, optimizer),
        saved=saved,
        flops=flops,
        note=note,
    )


def saved_storages(graph_of: Any) -> tuple[Any, dict[int, int]]:
    """Return ``graph_of()`` and the bytes of each storage that its autograd keeps."""
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.nbytes():
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = graph_of()
    return result, sizes


def _points(values: Iterable[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(_BATCH_SIZES, values, strict=True))


def _run(model: nn.Module, batch: Batch) -> tuple[int, int]:
    """Return the bytes that autograd keeps and the operations of one step."""
    vectors: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, _Vectors):
            module.given = vectors
    with FlopCounterMode(display=False) as counter:
        logits, sizes = saved_storages(lambda: model(batch))
        logits.sum().backward()
    ours = [*model.parameters(), *model.buffers(), *vectors]
    for tensor in ours:
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(sizes.values()), int(counter.get_total_flops())


def _state_bytes(parameters: list[nn.Parameter], section: DenseOptimizer) -> int:
    """Return the bytes of the optimizer's state after a first step."""
    if not parameters:
        return 0
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = build_dense_optimizer(parameters, section)
    optimizer.step()
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )


class _Vectors(nn.Module):
    """Stands for a collection: vectors of zeros of the right shapes."""

    def __init__(self, plain: EmbeddingBagCollection | EmbeddingCollection) -> None:
        super().__init__()
        self.is_pooled = isinstance(plain, EmbeddingBagCollection)
        tables = (
            plain.embedding_bag_configs()
            if self.is_pooled
            else plain.embedding_configs()
        )
        self.widths = {
            name: t.embedding_dim for t in tables for name in t.feature_names
        }
        self.given: list[torch.Tensor] = []

    def forward(self, features: KeyedJaggedTensor) -> Any:
        """Return what the collection would."""
        if self.is_pooled:
            values = self._zeros(features.stride(), sum(self.widths.values()))
            return KeyedTensor(list(self.widths), list(self.widths.values()), values)
        found = {}
        for name, width in self.widths.items():
            bags = features[name]
            values = self._zeros(bags.values().numel(), width)
            found[name] = JaggedTensor(values=values, lengths=bags.lengths())
        return found

    def _zeros(self, rows: int, width: int) -> torch.Tensor:
        # Lookups train their rows: the vectors' gradient is asked for.
        values = torch.zeros(rows, width, requires_grad=True)
        self.given.append(values)
        return values


def _replace_collections(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, EmbeddingBagCollection | EmbeddingCollection):
                setattr(parent, name, _Vectors(child))


def _batch(
    schema: FeatureSchema, average_lengths: Mapping[str, float], num_rows: int
) -> Batch:
    """Return a batch of zeros whose bags have ``average_lengths``."""
    numbers = np.arange(num_rows + 1)
    lengths = [
        np.diff((numbers * average_lengths.get(feature.name, 1.0)).astype(np.int32))
        for feature in schema.multi_hot
    ]
    lengths += [np.ones(num_rows, dtype=np.int32)] * schema.num_label_bags
    bag_lengths = (
        np.stack(lengths, axis=1) if lengths else np.zeros((num_rows, 0), np.int32)
    )
    num_ids = int(bag_lengths.sum())
    weighted = any(feature.weighted for feature in schema.multi_hot)
    rows = EncodedRows(
        labels=np.zeros(num_rows, dtype=np.float32),
        weights=np.ones(num_rows, dtype=np.float32),
        dense=np.zeros((num_rows, schema.num_dense), dtype=np.float32),
        one_hot=np.zeros((num_rows, len(schema.one_hot)), dtype=np.int32),
        bag_lengths=bag_lengths.astype(np.int32),
        bag_values=np.zeros(num_ids, dtype=np.int32),
        bag_weights=np.ones(num_ids, dtype=np.float32) if weighted else None,
    )
    return collate(rows, np.arange(num_rows, dtype=np.int64), schema)
