"""Bags and optimizer steps by float64 loops, straight from the definitions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.optimizer import SparseOptimizer

CPU = torch.device("cpu")


def table(
    name: str, rows: int, dim: int, features: list[str], pooling: str = "sum"
) -> EmbeddingBagConfig:
    return EmbeddingBagConfig(
        name=name,
        num_embeddings=rows,
        embedding_dim=dim,
        feature_names=features,
        pooling=PoolingType[pooling.upper()],
    )


def plain_model(
    tables: list[EmbeddingBagConfig], *, is_weighted: bool = False, seed: int = 0
) -> nn.Module:
    """Return a module whose ``bags`` is torchrec's collection with random values."""
    bags = EmbeddingBagCollection(tables=tables, is_weighted=is_weighted, device=CPU)
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
    state: dict[str, np.ndarray] = field(default_factory=dict)
    step: int = 0

    def factors(self, ids: list[int], weights: list[float]) -> list[float]:
        return [w / len(ids) if self.pooling == "mean" else w for w in weights]

    def pooled(self, ids: list[int], weights: list[float]) -> np.ndarray:
        total = np.zeros(self.weight.shape[1])
        for i, factor in zip(ids, self.factors(ids, weights), strict=True):
            total += factor * self.weight[i]
        return total

    def update(
        self,
        options: SparseOptimizer,
        uses: list[tuple[list[int], list[float], np.ndarray]],
    ) -> None:
        """Take one step; ``uses``: every bag's ids, weights and vector's gradient."""
        gradients: dict[int, np.ndarray] = {}
        for ids, weights, gradient in uses:
            if options.clip_value is not None:
                gradient = gradient.clip(-options.clip_value, options.clip_value)
            for i, factor in zip(ids, self.factors(ids, weights), strict=True):
                gradients[i] = gradients.get(i, 0.0) + factor * gradient
        self.step += 1
        for i, g in gradients.items():
            self._update_row(options, i, g + options.weight_decay * self.weight[i])

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
            rate = o.lr * 0.001 * np.linalg.norm(w) / np.linalg.norm(g)
            m[:] = o.momentum * m + rate * g
            w -= m
        else:
            m, v = self.slot("exp_avg")[i], self.slot("exp_avg_sq")[i]
            m[:] = o.beta1 * m + (1 - o.beta1) * g
            v[:] = o.beta2 * v + (1 - o.beta2) * square
            change = (m / (1 - o.beta1**t)) / (np.sqrt(v / (1 - o.beta2**t)) + o.eps)
            if "lamb" in name:
                change *= np.linalg.norm(w) / np.linalg.norm(change)
            w -= o.lr * change


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
