"""Bags and optimizer steps by float64 loops, straight from the definitions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torchrec.modules.embedding_configs import PoolingType
from torchrec.modules.embedding_modules import (
    EmbeddingBagCollection,
    EmbeddingCollection,
)
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.table_options import Gradient, TableOptions
from dlrm.embeddings.kernels import Kernel
from dlrm.embeddings.table_config import BagTableConfig, RowTableConfig
from dlrm.kernels.library import native

CPU = torch.device("cpu")
KERNELS = [kernel for kernel in Kernel if kernel is not Kernel.native or native()]
"""Those that are there: the package also works where nothing was compiled."""
_TRAINED_BY = {
    Kernel.torch: [name.value for name in SparseOptimizerName],
    Kernel.fbgemm: ["sgd", "adagrad", "rowwise_adagrad"],
    Kernel.native: [
        "sgd",
        "adagrad",
        "rowwise_adagrad",
        "adam",
        "partial_rowwise_adam",
    ],
}
TRAINERS = [
    (kernel, SparseOptimizerName(name))
    for kernel in KERNELS
    for name in _TRAINED_BY[kernel]
]
"""Every kernel with every optimizer that it has."""
FUSED = "NativeBags" if native() else "FbgemmBags"
"""What serves tables without particular options on a CPU."""


def table(
    name: str,
    rows: int,
    dim: int,
    features: list[str],
    pooling: str = "sum",
    options: TableOptions | None = None,
) -> BagTableConfig:
    return BagTableConfig(
        name=name,
        num_embeddings=rows,
        embedding_dim=dim,
        feature_names=features,
        pooling=PoolingType[pooling.upper()],
        options=options or TableOptions(),
    )


def row_table(
    name: str,
    rows: int,
    dim: int,
    features: list[str],
    options: TableOptions | None = None,
) -> RowTableConfig:
    return RowTableConfig(
        name=name,
        num_embeddings=rows,
        embedding_dim=dim,
        feature_names=features,
        options=options or TableOptions(),
    )


def plain_model(
    tables: list[BagTableConfig] | list[RowTableConfig],
    *,
    is_weighted: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Return a module whose ``bags`` is torchrec's collection with random values."""
    if isinstance(tables[0], RowTableConfig):
        bags = EmbeddingCollection(tables=tables, device=CPU)
    else:
        bags = EmbeddingBagCollection(
            tables=tables, is_weighted=is_weighted, device=CPU
        )
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in bags.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random))
    model = nn.Module()
    model.bags = bags
    return model


def keyed_bags(bags: dict[str, list[list[int]]], *, seed: int | None = None):
    """Return int32 bags; with a seed, with random weights of both signs."""
    ids = [i for feature in bags.values() for bag in feature for i in bag]
    lengths = [len(bag) for feature in bags.values() for bag in feature]
    weights = None
    if seed is not None:
        random = torch.Generator().manual_seed(seed)
        weights = torch.randn(len(ids), generator=random)
    return KeyedJaggedTensor(
        keys=list(bags),
        values=torch.tensor(ids, dtype=torch.int32),
        lengths=torch.tensor(lengths, dtype=torch.int32),
        weights=weights,
    )


@dataclass
class OracleTable:
    """One table that is trained row by row in float64."""

    weight: np.ndarray
    pooling: str
    options: TableOptions = field(default_factory=TableOptions)
    state: dict[str, np.ndarray] = field(default_factory=dict)
    step: int = 0
    uses: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.uses = np.zeros(len(self.weight), dtype=np.int32)

    def seen(self, i: int) -> np.ndarray:
        """Return row ``i`` as a lookup gives it."""
        if self.uses[i] < self.options.admit_after:
            return np.zeros(self.weight.shape[1])
        limit = self.options.max_norm
        norm = np.linalg.norm(self.weight[i], ord=self.options.norm_type)
        beyond = limit is not None and norm > limit
        return self.weight[i] * (limit / (norm + 1e-7) if beyond else 1.0)

    def factors(self, ids: list[int], weights: list[float]) -> list[float]:
        return [w / len(ids) if self.pooling == "mean" else w for w in weights]

    def pooled(self, ids: list[int], weights: list[float]) -> np.ndarray:
        total = np.zeros(self.weight.shape[1])
        for i, factor in zip(ids, self.factors(ids, weights), strict=True):
            total += factor * self.seen(i)
        return total

    def update(
        self,
        options: SparseOptimizer,
        uses: list[tuple[list[int], list[float], np.ndarray]],
    ) -> None:
        """Take one step; ``uses``: every bag's ids, weights and vector's gradient."""
        rows, own = len(self.weight), self.options
        gradients: dict[int, np.ndarray] = {}
        counts = np.zeros(rows, dtype=np.int32)
        for ids, weights, gradient in uses:
            if options.clip_value is not None:
                gradient = gradient.clip(-options.clip_value, options.clip_value)
            for i, factor in zip(ids, self.factors(ids, weights), strict=True):
                gradients[i] = gradients.get(i, 0.0) + factor * gradient
                counts[i] += 1
        if own.frozen:
            return
        self.step += 1
        dense = own.gradient is Gradient.dense
        for i in range(rows) if dense else list(gradients):
            padding = own.padding_idx is not None and i == own.padding_idx % rows
            if padding or self.uses[i] < own.admit_after:
                continue
            if counts[i]:
                self.weight[i] = self.seen(i)
            g = gradients.get(i, np.zeros(self.weight.shape[1]))
            if own.scale_grad_by_freq:
                g = g / max(counts[i], 1)
            self._update_row(options, i, g + options.weight_decay * self.weight[i])
        self.uses += counts

    def slot(self, name: str) -> np.ndarray:
        return self.state.setdefault(name, np.zeros_like(self.weight))

    def _update_row(self, o: SparseOptimizer, i: int, g: np.ndarray) -> None:
        name, w, t = o.name.value, self.weight[i], self.step
        square = np.full_like(g, (g**2).mean()) if "rowwise" in name else g**2
        if name == "sgd":
            w -= o.lr * g
        elif name in ("adagrad", "rowwise_adagrad"):
            s = self.slot("sum")[i]
            s += square
            w -= o.lr * g / (np.sqrt(s) + o.eps)
        elif name == "lars_sgd":
            m = self.slot("momentum")[i]
            m[:] = o.momentum * m + o.lr * trust(w, g, 0.001) * g
            w -= m
        else:
            m, v = self.slot("exp_avg")[i], self.slot("exp_avg_sq")[i]
            m[:] = o.beta1 * m + (1 - o.beta1) * g
            v[:] = o.beta2 * v + (1 - o.beta2) * square
            change = (m / (1 - o.beta1**t)) / (np.sqrt(v / (1 - o.beta2**t)) + o.eps)
            if "lamb" in name:
                change *= trust(w, change)
            w -= o.lr * change


def trust(weight: np.ndarray, direction: np.ndarray, coefficient: float = 1.0) -> float:
    size, length = np.linalg.norm(weight), np.linalg.norm(direction)
    return coefficient * size / length if size > 0 and length > 0 else 1.0


def weights_of(bags: KeyedJaggedTensor) -> list[float]:
    weights = bags.weights_or_none()
    return [1.0] * bags.values().numel() if weights is None else weights.tolist()


def bags_of(bags: KeyedJaggedTensor) -> dict[str, list[tuple[list[int], list[float]]]]:
    """Return each feature's bags as (ids, weights)."""
    ids, weights, first = bags.values().tolist(), weights_of(bags), 0
    result: dict[str, list[tuple[list[int], list[float]]]] = {}
    for k, length in enumerate(bags.lengths().tolist()):
        last = first + length
        name = bags.keys()[k // bags.stride()]
        result.setdefault(name, []).append((ids[first:last], weights[first:last]))
        first = last
    return result
