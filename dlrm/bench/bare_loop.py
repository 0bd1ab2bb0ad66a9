"""The yardstick: a bare loop over fbgemm's CPU tables, batches already in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, pairwise

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
    EmbeddingLocation,
    PoolingMode,
)
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import nn

from dlrm.config.errors import ConfigError
from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.data.batch import Batch
from dlrm.models.dlrm import DLRMConfig

_OPTIMIZERS = {
    SparseOptimizerName.sgd: EmbOptimType.EXACT_SGD,
    SparseOptimizerName.adagrad: EmbOptimType.EXACT_ADAGRAD,
    SparseOptimizerName.rowwise_adagrad: EmbOptimType.EXACT_ROWWISE_ADAGRAD,
}


@dataclass(frozen=True, slots=True)
class BareBatch:
    """A batch as the kernels take it: int64 indices and offsets, features first."""

    dense: torch.Tensor
    indices: torch.Tensor
    offsets: torch.Tensor
    labels: torch.Tensor


class BareLoop:
    """DLRM with dot interaction, written out with nothing between torch and fbgemm."""

    def __init__(
        self,
        *,
        table_rows: list[int],
        num_dense: int,
        model: DLRMConfig,
        sparse: SparseOptimizer,
        dense_lr: float,
        batches: list[BareBatch],
    ) -> None:
        if sparse.name not in _OPTIMIZERS:
            raise ConfigError(
                f"The bare loop over fbgemm's CPU tables has "
                f"{', '.join(name.value for name in _OPTIMIZERS)}, but "
                f"optimizer.sparse.name is {sparse.name.value}."
            )
        width = model.embedding_dim
        self.tables = SplitTableBatchedEmbeddingBagsCodegen(
            [
                (rows, width, EmbeddingLocation.HOST, ComputeDevice.CPU)
                for rows in table_rows
            ],
            optimizer=_OPTIMIZERS[sparse.name],
            learning_rate=sparse.lr,
            eps=sparse.eps,
            pooling_mode=PoolingMode.SUM,
        )
        self.tables.init_embedding_weights_uniform(-0.01, 0.01)
        num_vectors = len(table_rows) + 1
        self.bottom_mlp = _mlp([num_dense, *model.bottom_mlp, width], last_relu=True)
        rows, columns = torch.triu_indices(num_vectors, num_vectors, offset=1)
        self.flat_pair_index = rows * num_vectors + columns
        top_dim = width + rows.numel()
        self.top_mlp = _mlp([top_dim, *model.top_mlp, 1], last_relu=False)
        parameters = [*self.bottom_mlp.parameters(), *self.top_mlp.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=dense_lr)
        self.batches: Iterator[BareBatch] = cycle(batches)

    def run(self, num_steps: int) -> None:
        """Take steps on the batches in memory, over and over."""
        for _ in range(num_steps):
            self._step(next(self.batches))

    def _step(self, batch: BareBatch) -> None:
        size = batch.labels.shape[0]
        dense = self.bottom_mlp(batch.dense)
        pooled = self.tables(batch.indices, batch.offsets)
        vectors = torch.cat([dense, pooled], dim=1).view(size, -1, dense.shape[1])
        gram = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        pairs = gram.index_select(1, self.flat_pair_index)
        logits = self.top_mlp(torch.cat([dense, pairs], dim=1)).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def bare_batch(batch: Batch) -> BareBatch:
    """Return one of our batches as bare tensors."""
    bags = batch.sparse["pooled"]
    return BareBatch(
        dense=batch.dense.clone(),
        indices=bags.values().long(),
        offsets=bags.offsets().long(),
        labels=batch.labels.clone(),
    )


def _mlp(widths: list[int], *, last_relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*(layers if last_relu else layers[:-1]))
