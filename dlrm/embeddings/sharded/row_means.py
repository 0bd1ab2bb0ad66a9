"""Means over bags whose rows lie on several processes: their sums, divided.

Shape suffixes: B = batch, F = features, D = the widths of all features together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from dlrm.config.optimizer import SparseOptimizer
from dlrm.config.sharding import Strategy
from dlrm.embeddings.table_config import options_of

_BY_ROWS = frozenset({Strategy.row_wise, Strategy.table_row_wise, Strategy.grid})


class RowMeans:
    """Divides the sums of the features that want means of tables divided by rows.

    torchrec would do so itself, but also divides the sums of its other tables.
    """

    def __init__(
        self,
        configs: Sequence[EmbeddingBagConfig],
        strategies: Mapping[str, Strategy],
        *,
        optimizer: SparseOptimizer,
        world_size: int,
    ) -> None:
        """Find the features; ``optimizer`` is that of tables without their own."""
        self._limits: dict[str, float] = {}
        for config in configs:
            if not _is_row_mean(config, strategies[config.name]):
                continue
            clip = options_of(config).optimizer.resolved(optimizer).clip_value
            # The gradients still are to be divided by the number of processes.
            limit = math.inf if clip is None else clip * world_size
            self._limits.update(dict.fromkeys(config.feature_names, limit))

    def __bool__(self) -> bool:
        """Say whether there is any such feature."""
        return bool(self._limits)

    def divisors(self, features: KeyedJaggedTensor) -> torch.Tensor:
        """Return the bags' lengths, at least 1, of the features in question, [F, B]."""
        keys: list[str] = features.keys()
        lengths = features.lengths().view(len(keys), -1)
        wanted = [keys.index(name) for name in self._limits]
        return lengths[wanted].clamp(min=1).float()

    def divide(self, sums: KeyedTensor, divisors_FB: torch.Tensor) -> KeyedTensor:
        """Return ``sums`` with the features in question divided."""
        keys, widths = sums.keys(), sums.length_per_key()
        columns = torch.split(sums.values(), widths, dim=1)
        divisor_of = dict(zip(self._limits, divisors_FB[:, :, None], strict=True))
        values = [
            _Mean.apply(part, divisor_of[key], self._limits[key])  # type: ignore[no-untyped-call]
            if key in self._limits
            else part
            for key, part in zip(keys, columns, strict=True)
        ]
        return KeyedTensor(
            keys=keys, length_per_key=widths, values=torch.cat(values, dim=1)
        )


def summed(config: EmbeddingBagConfig, strategy: Strategy) -> EmbeddingBagConfig:
    """Return the config under which a process looks up its part of the table."""
    if not _is_row_mean(config, strategy):
        return config
    return dataclasses.replace(config, pooling=PoolingType.SUM)


def _is_row_mean(config: EmbeddingBagConfig, strategy: Strategy) -> bool:
    return strategy in _BY_ROWS and config.pooling is PoolingType.MEAN


class _Mean(torch.autograd.Function):
    """Divides; the gradient is limited before, as a lookup by mean would."""

    @staticmethod
    def forward(
        ctx: Any, sums_BD: torch.Tensor, divisor: torch.Tensor, limit: float
    ) -> torch.Tensor:
        ctx.save_for_backward(divisor)
        ctx.limit = limit
        return sums_BD / divisor

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (divisor,) = ctx.saved_tensors
        return gradient.clamp(-ctx.limit, ctx.limit) / divisor, None, None
