"""Tables in fbgemm's table-batched embeddings, on a CPU or a GPU."""

from __future__ import annotations

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
    BoundsCheckMode,
    EmbeddingLocation,
    PoolingMode,
)
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.embeddings.bags import table_of_feature
from dlrm.embeddings.row_updates import COUNTS_STEPS, STATE_IS_ROWWISE

_ON_CPU = {
    SparseOptimizerName.sgd: EmbOptimType.EXACT_SGD,
    SparseOptimizerName.adagrad: EmbOptimType.EXACT_ADAGRAD,
    SparseOptimizerName.rowwise_adagrad: EmbOptimType.EXACT_ROWWISE_ADAGRAD,
}
_ON_GPU = _ON_CPU | {
    SparseOptimizerName.adam: EmbOptimType.ADAM,
    SparseOptimizerName.partial_rowwise_adam: EmbOptimType.PARTIAL_ROWWISE_ADAM,
}


def fbgemm_is_right(
    options: SparseOptimizer, *, device: torch.device, embedding_dim: int
) -> bool:
    """Say whether fbgemm computes these updates by the formulas of ``row_updates``.

    Its kernels want widths in fours; its CPU kernels ignore weight decay for most
    optimizers and its GPU kernels decouple it for Adam; with eps 0 its Adagrads give
    NaN for a zero gradient; its LAMB and LARS never move a row of zeros.
    """
    offered = _ON_GPU if device.type == "cuda" else _ON_CPU
    needs_eps = options.name is not SparseOptimizerName.sgd
    return (
        options.name in offered
        and embedding_dim % 4 == 0
        and options.weight_decay == 0.0
        and (options.eps > 0.0 or not needs_eps)
    )


class FbgemmBags:
    """Tables of any widths in one fbgemm module. Meets ``Bags``."""

    def __init__(
        self,
        tables: list[EmbeddingBagConfig],
        *,
        pooling: PoolingType,
        options: SparseOptimizer,
        device: torch.device,
    ) -> None:
        """Allocate the tables and their optimizer state, all zeros."""
        self.tables = tables
        self._name = options.name
        cuda = device.type == "cuda"
        location = EmbeddingLocation.DEVICE if cuda else EmbeddingLocation.HOST
        compute = ComputeDevice.CUDA if cuda else ComputeDevice.CPU
        clip = options.clip_value
        self._tbe = SplitTableBatchedEmbeddingBagsCodegen(
            [(t.num_embeddings, t.embedding_dim, location, compute) for t in tables],
            # The row-wise kernel wants the features of one table side by side.
            feature_table_map=table_of_feature(tables),
            pooling_mode=PoolingMode.MEAN
            if pooling is PoolingType.MEAN
            else PoolingMode.SUM,
            optimizer=_ON_GPU[options.name],
            learning_rate=options.lr,
            eps=options.eps,
            beta1=options.beta1,
            beta2=options.beta2,
            gradient_clipping=clip is not None,
            max_gradient=1.0 if clip is None else clip,
            # The CPU's lookup refuses bad ids by itself; on a GPU it would read
            # foreign memory. The modes that mend ids by sending them to row 0 hide
            # mistakes.
            bounds_check_mode=BoundsCheckMode.FATAL if cuda else BoundsCheckMode.NONE,
            stochastic_rounding=False,
            device=device,
        )

    def pooled(
        self,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Bags``."""
        vectors: torch.Tensor = self._tbe(ids, offsets, weights)
        if not torch.is_grad_enabled() and self._name in COUNTS_STEPS:
            # fbgemm counts every lookup as a step, those of an evaluation included.
            self.step -= 1
        return vectors

    def weight(self, index: int) -> torch.Tensor:
        """See ``Bags``."""
        view: torch.Tensor = self._tbe.split_embedding_weights()[index]
        return view.detach()

    def optimizer_state(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        names = STATE_IS_ROWWISE[self._name]
        if not names:
            return {}
        views = self._tbe.split_optimizer_states()[index]
        return {name: view.detach() for name, view in zip(names, views, strict=True)}

    @property
    def step(self) -> int:
        """Steps taken so far; 0 for optimizers that do not count them."""
        counts = self._name in COUNTS_STEPS
        return int(self._tbe.iter_cpu.item()) if counts else 0

    @step.setter
    def step(self, step: int) -> None:
        self._tbe.iter_cpu.fill_(step)
        self._tbe.iter.fill_(step)

    def set_learning_rate(self, lr: float) -> None:
        """See ``Bags``."""
        self._tbe.set_learning_rate(lr)
