"""A few training steps of self-training tables beside the float64 loops."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.table_options import TableOptions
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.local import to_local
from dlrm.embeddings.state import TablePart, table_states
from tests.embeddings.oracle import (
    CPU,
    OracleTable,
    bags_of,
    keyed_bags,
    plain_model,
    row_table,
    table,
)

# Duplicates inside a bag, empty bags, and one table that two features share, with
# another feature between them.
RAGGED = {
    "a": [[1, 1, 4], [], [0], [6, 2]],
    "b": [[3], [3], [], [2, 0, 2]],
    "c": [[], [1, 5], [6], [1]],
}
ONE_HOT = {
    "a": [[1], [1], [6], [0]],
    "b": [[3], [2], [3], [3]],
    "c": [[0], [1], [4], [1]],
}
ONE_ROW = {"a": [[2, 2]], "b": [[]], "c": [[2]]}


KINDS = ("sum", "mean", "weighted", "rows")
"""Poolings of a bag collection, one with weights, and a collection without pooling."""

Bags = dict[str, list[list[int]]]
Uses = list[tuple[list[int], list[float], np.ndarray]]


def run_against_oracle(
    optimizer: SparseOptimizer,
    kernel: Kernel | None,
    *,
    kind: str = "sum",
    options: TableOptions | None = None,
    widths: tuple[int, int] = (4, 4),
    batches: tuple[Bags, ...] = (RAGGED, ONE_HOT, RAGGED),
    scale: float = 1.0,
) -> dict[str, TablePart]:
    """Train a shared and a single table for a step a batch; compare all numbers.

    ``scale`` multiplies the initial values.
    """
    options = options or TableOptions()
    model = _model(kind, options, widths)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    oracles = {
        name.split(".")[-2]: OracleTable(
            weight.detach().double().numpy().copy(),
            "mean" if kind == "mean" else "sum",
            options,
        )
        for name, weight in model.named_parameters()
    }
    to_local(model, optimizer=optimizer, device=CPU, kernel=kernel)
    random = torch.Generator().manual_seed(5)
    for seed, batch in enumerate(batches):
        bags = keyed_bags(batch, seed=seed if kind == "weighted" else None)
        vectors = vectors_of(model, bags)
        loss, uses = torch.zeros(()), {}
        for name, owner in {"a": "shared", "c": "shared", "b": "own"}.items():
            factor = torch.randn(vectors[name].shape, generator=random)
            loss = loss + (vectors[name] * factor).sum()
            # A vector each: of a bag, or of an id where nothing is pooled.
            for row, (ids, weights) in enumerate(_units(bags, name, kind)):
                got = vectors[name][row].detach().numpy()
                expected = oracles[owner].pooled(ids, weights)
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
                gradient = factor[row].double().numpy()
                uses.setdefault(owner, []).append((ids, weights, gradient))
        if loss.requires_grad:
            loss.backward()
        for name, oracle in oracles.items():
            oracle.update(options.optimizer.resolved(optimizer), uses.get(name, []))
    states = table_states(model)
    for name, oracle in oracles.items():
        compare(states[name], oracle)
    return states


def vectors_of(model: nn.Module, bags: KeyedJaggedTensor) -> dict[str, torch.Tensor]:
    """Return each feature's vectors: of its bags, or of its ids."""
    found = model.bags(bags)
    if isinstance(found, dict):
        return {name: jagged.values() for name, jagged in found.items()}
    return found.to_dict()


def compare(state: TablePart, oracle: OracleTable) -> None:
    """Compare weight, optimizer state and uses of one table."""
    got = state.weight.float().numpy()
    np.testing.assert_allclose(got, oracle.weight, rtol=2e-4, atol=2e-5)
    for key, value in state.optimizer.items():
        if key == "uses":
            assert value.dtype == torch.int32
            np.testing.assert_array_equal(value.numpy(), oracle.uses)
            continue
        assert value.dtype == torch.float32
        expected = oracle.slot(key)
        expected = expected[:, 0] if value.dim() == 1 else expected
        np.testing.assert_allclose(value.numpy(), expected, rtol=2e-4, atol=1e-6)


def _model(kind: str, options: TableOptions, widths: tuple[int, int]) -> nn.Module:
    if kind == "rows":
        return plain_model(
            [
                row_table("shared", 7, widths[0], ["a", "c"], options),
                row_table("own", 4, widths[1], ["b"], options),
            ]
        )
    pooling = "mean" if kind == "mean" else "sum"
    return plain_model(
        [
            table("shared", 7, widths[0], ["a", "c"], pooling, options),
            table("own", 4, widths[1], ["b"], pooling, options),
        ],
        is_weighted=kind == "weighted",
    )


def _units(
    bags: KeyedJaggedTensor, name: str, kind: str
) -> list[tuple[list[int], list[float]]]:
    found = bags_of(bags)[name]
    if kind != "rows":
        return found
    return [([i], [1.0]) for ids, _ in found for i in ids]
