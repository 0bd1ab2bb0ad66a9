"""Tables behind the package's own kernels for CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchrec.modules.embedding_configs import PoolingType

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.config.sharding import Storage
from dlrm.embeddings.bags import table_of_feature
from dlrm.embeddings.kernel_options import KernelOptions, TableConfig
from dlrm.embeddings.row_updates import COUNTS_STEPS, STATE_IS_ROWWISE
from dlrm.kernels.embedding import (
    BagBatch,
    BagPooling,
    RowOptimizer,
    RowStep,
    zeros_on_large_pages,
)
from dlrm.kernels.library import why_absent

_OPTIMIZERS = {
    SparseOptimizerName[optimizer.name]: optimizer for optimizer in RowOptimizer
}
_POOLINGS = {
    PoolingType.SUM: BagPooling.sum,
    PoolingType.MEAN: BagPooling.mean,
    PoolingType.NONE: BagPooling.none,
}


def native_refusal(options: KernelOptions, device: torch.device) -> str | None:
    """Return why the own kernels cannot serve tables of these options, or None.

    They keep float32 rows of any width, and step touched rows alone.
    """
    optimizer = options.optimizer
    if device.type != "cpu":
        return f"device={device.type}"
    name = None if optimizer is None else optimizer.name
    reasons = {
        f"optimizer {name and name.value}": name and name not in _OPTIMIZERS,
        f"dtype={options.dtype}": options.dtype != torch.float32,
        "gradient=dense": options.dense_gradient,
        "scale_grad_by_freq=true": options.scale_grad_by_freq,
        f"max_norm={options.max_norm}": options.max_norm is not None,
        f"admit_after={options.admit_after}": options.admit_after > 0,
        "padding_idx": options.padded,
        f"storage={options.storage.value}": options.storage is not Storage.fused,
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    absent = None if reason else why_absent()
    return reason or (absent and f"no native kernels: {absent}")


class NativeBags:
    """Tables in the package's own kernels, of any widths where they are pooled.

    Meets ``Bags``. Results are the same to the bit for any number of threads.
    """

    def __init__(self, tables: Sequence[TableConfig], options: KernelOptions) -> None:
        """Allocate the tables and their optimizer state, all zeros."""
        self.tables, self._optimizer = list(tables), options.optimizer
        self._pooling = _POOLINGS[options.pooling]
        self._table_of_feature = table_of_feature(tables)
        self.weights = [
            zeros_on_large_pages(t.num_embeddings, t.embedding_dim) for t in tables
        ]
        names = (
            {} if self._optimizer is None else STATE_IS_ROWWISE[self._optimizer.name]
        )
        self._states = {
            name: [
                zeros_on_large_pages(*weight.shape[: 1 if rowwise else 2])
                for weight in self.weights
            ]
            for name, rowwise in names.items()
        }
        self.step = 0
        """See ``Bags``."""
        self._rate_factor = 1.0
        # Autograd calls a backward only where some input wants a gradient.
        self._anchor = torch.zeros(0, requires_grad=self._optimizer is not None)

    def pooled(
        self,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Bags``."""
        if self._pooling is BagPooling.none:
            weights = None
        if weights is not None:
            weights = weights.float().contiguous()
        vectors: torch.Tensor = _Lookup.apply(  # type: ignore[no-untyped-call]
            self._anchor, ids.contiguous(), offsets.contiguous(), weights, self
        )
        return vectors

    def batch(
        self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor | None
    ) -> BagBatch:
        """Return the bags as the kernels read them."""
        return BagBatch(ids, offsets, weights, self._pooling, self._table_of_feature)

    def lr(self) -> float:
        """Return the learning rate of a step whose lookup is made now."""
        return (
            0.0 if self._optimizer is None else self._optimizer.lr * self._rate_factor
        )

    def update(self, batch: BagBatch, gradient: torch.Tensor, lr: float) -> None:
        """Take one step with the gradient of the pooled vectors."""
        optimizer = self._optimizer
        if optimizer is None:
            return
        if optimizer.clip_value is not None:
            gradient = gradient.clamp(-optimizer.clip_value, optimizer.clip_value)
        self.step += optimizer.name in COUNTS_STEPS
        states = list(self._states.values())
        batch.update(self.weights, states, gradient, self._row_step(optimizer, lr))

    def _row_step(self, optimizer: SparseOptimizer, lr: float) -> RowStep:
        return RowStep(
            optimizer=_OPTIMIZERS[optimizer.name],
            lr=lr,
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
            step=self.step,
        )

    def weight(self, index: int) -> torch.Tensor:
        """See ``Bags``."""
        return self.weights[index]

    def settle(self) -> None:
        """See ``Bags``."""

    def optimizer_state(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        return {name: state[index] for name, state in self._states.items()}

    def counters(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        return {}

    def set_rate_factor(self, factor: float) -> None:
        """See ``Bags``."""
        self._rate_factor = factor


class _Lookup(torch.autograd.Function):
    """Pools forward; updates the tables backward, where no gradient leaves for them."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: torch.Tensor,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
        tables: NativeBags,
    ) -> torch.Tensor:
        """Return the pooled vectors; ``weights`` is there to receive a gradient."""
        ctx.save_for_backward(ids, offsets, weights)
        ctx.tables, ctx.lr = tables, tables.lr()
        return tables.batch(ids, offsets, weights).pool(tables.weights)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Step every touched row; return the gradient of the ids' weights."""
        batch = ctx.tables.batch(*ctx.saved_tensors)
        of_weights = None
        if ctx.needs_input_grad[3]:
            of_weights = batch.weight_gradients(ctx.tables.weights, gradient)
        ctx.tables.update(batch, gradient, ctx.lr)
        return None, None, None, of_weights, None
