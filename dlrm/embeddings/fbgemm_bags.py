"""Tables in fbgemm's table-batched embeddings, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
    BoundsCheckMode,
    PoolingMode,
)
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torchrec.modules.embedding_configs import PoolingType

from dlrm.config.optimizer import SparseOptimizerName
from dlrm.config.sharding import Storage
from dlrm.embeddings.bags import table_of_feature
from dlrm.embeddings.kernel_options import KernelOptions, TableConfig
from dlrm.embeddings.row_updates import COUNTS_STEPS, STATE_IS_ROWWISE
from dlrm.embeddings.storage import DEFAULT_CACHE_LOAD_FACTOR, fbgemm_location

_ON_CPU = {
    SparseOptimizerName.sgd: EmbOptimType.EXACT_SGD,
    SparseOptimizerName.adagrad: EmbOptimType.EXACT_ADAGRAD,
    SparseOptimizerName.rowwise_adagrad: EmbOptimType.EXACT_ROWWISE_ADAGRAD,
}
_ON_GPU = _ON_CPU | {
    SparseOptimizerName.adam: EmbOptimType.ADAM,
    SparseOptimizerName.partial_rowwise_adam: EmbOptimType.PARTIAL_ROWWISE_ADAM,
}

_POOLING = {
    PoolingType.SUM: PoolingMode.SUM,
    PoolingType.MEAN: PoolingMode.MEAN,
    PoolingType.NONE: PoolingMode.NONE,
}


def fbgemm_refusal(options: KernelOptions, device: torch.device) -> str | None:
    """Return why fbgemm cannot serve tables of these options; None where it can.

    It must compute the updates by the formulas of ``row_updates``. Its kernels want
    widths in fours; its CPU kernels ignore weight decay for most optimizers and its GPU
    kernels decouple it for Adam; with eps 0 its Adagrads give NaN for a zero gradient;
    its LAMB and LARS never move a row of zeros. Its ``max_norm`` is ignored on a CPU,
    as is stochastic rounding; it has no bfloat16, padding row, count of a row's uses,
    or steps on rows that were not looked up.
    """
    optimizer = options.optimizer
    if optimizer is None:
        return "frozen=true"
    offered = _ON_GPU if device.type == "cuda" else _ON_CPU
    divides = optimizer.name is not SparseOptimizerName.sgd
    reasons = {
        f"optimizer {optimizer.name.value}": optimizer.name not in offered,
        f"embedding_dim={options.embedding_dim}": options.embedding_dim % 4 != 0,
        f"weight_decay={optimizer.weight_decay}": optimizer.weight_decay != 0.0,
        "eps=0.0": divides and optimizer.eps == 0.0,
        f"dtype={options.dtype}": options.dtype != torch.float32,
        "gradient=dense": options.dense_gradient,
        "scale_grad_by_freq=true": options.scale_grad_by_freq,
        f"max_norm={options.max_norm}": options.max_norm is not None,
        f"admit_after={options.admit_after}": options.admit_after > 0,
        "padding_idx": options.padded,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class FbgemmBags:
    """Tables in one fbgemm module, of any widths where they are pooled.

    Meets ``Bags``. Rows that the GPU caches are written back, and the cache emptied,
    whenever ``weight`` or ``settle`` is asked for: views are then whole, and what is
    written into them is what the next lookup finds.
    """

    def __init__(
        self,
        tables: Sequence[TableConfig],
        options: KernelOptions,
        *,
        device: torch.device,
    ) -> None:
        """Allocate the tables and their optimizer state, all zeros."""
        optimizer = options.optimizer
        assert optimizer is not None
        self.tables = list(tables)
        self._name, self._lr = optimizer.name, optimizer.lr
        cuda = device.type == "cuda"
        location = fbgemm_location(options.storage, device)
        compute = ComputeDevice.CUDA if cuda else ComputeDevice.CPU
        clip = optimizer.clip_value
        self._tbe = SplitTableBatchedEmbeddingBagsCodegen(
            [(t.num_embeddings, t.embedding_dim, location, compute) for t in tables],
            # The row-wise kernel wants the features of one table side by side.
            feature_table_map=table_of_feature(tables),
            pooling_mode=_POOLING[options.pooling],
            optimizer=_ON_GPU[optimizer.name],
            learning_rate=optimizer.lr,
            eps=optimizer.eps,
            beta1=optimizer.beta1,
            beta2=optimizer.beta2,
            gradient_clipping=clip is not None,
            max_gradient=1.0 if clip is None else clip,
            # The CPU's lookup refuses bad ids by itself; on a GPU it would read
            # foreign memory. The modes that mend ids by sending them to row 0 hide
            # mistakes.
            bounds_check_mode=BoundsCheckMode.FATAL if cuda else BoundsCheckMode.NONE,
            stochastic_rounding=False,
            cache_load_factor=options.cache_load_factor or DEFAULT_CACHE_LOAD_FACTOR,
            device=device,
        )
        self._is_cached = options.storage is Storage.fused_uvm_caching
        self._num_settled = 0
        self._is_pooled = options.pooling is not PoolingType.NONE

    def pooled(
        self,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Bags``."""
        vectors: torch.Tensor = self._tbe(
            ids, offsets, weights if self._is_pooled else None
        )
        if not torch.is_grad_enabled() and self._name in COUNTS_STEPS:
            # fbgemm counts every lookup as a step, those of an evaluation included.
            self.step -= 1
        if self._is_cached and vectors.requires_grad:
            self._guard(vectors)
        return vectors

    def settle(self) -> None:
        """See ``Bags``."""
        if self._is_cached:
            self._tbe.flush()
            self._tbe.reset_cache_states()
            self._num_settled += 1

    def _guard(self, vectors: torch.Tensor) -> None:
        """Refuse the backward pass of a lookup whose places in the cache are gone."""
        settled = self._num_settled

        def check(_: torch.Tensor) -> None:
            if self._num_settled != settled:
                raise RuntimeError(
                    "Cached tables must not be read or written between a forward pass "
                    "and its backward pass, but they were: their updates would be lost."
                )

        vectors.register_hook(check)

    def weight(self, index: int) -> torch.Tensor:
        """See ``Bags``."""
        self.settle()
        view: torch.Tensor = self._tbe.split_embedding_weights()[index]
        return view.detach()

    def optimizer_state(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        names = STATE_IS_ROWWISE[self._name]
        if not names:
            return {}
        views = self._tbe.split_optimizer_states()[index]
        return {name: view.detach() for name, view in zip(names, views, strict=True)}

    def counters(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        return {}

    @property
    def step(self) -> int:
        """Steps taken so far; 0 for optimizers that do not count them."""
        counts = self._name in COUNTS_STEPS
        return int(self._tbe.iter_cpu.item()) if counts else 0

    @step.setter
    def step(self, step: int) -> None:
        self._tbe.iter_cpu.fill_(step)
        self._tbe.iter.fill_(step)

    def set_rate_factor(self, factor: float) -> None:
        """See ``Bags``."""
        self._tbe.set_learning_rate(self._lr * factor)
