"""The yardstick: a bare loop over fbgemm's tables, batches already in memory.

Shape suffixes: B = batch, F = vectors, D = their width, P = pairs, I = F * D.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

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

from dlrm.bench.yardstick import BareBatch, Shape, mlp, torch_optimizer
from dlrm.config.optimizer import OptimizerConfig, SparseOptimizerName
from dlrm.config.trainer import Precision
from dlrm.optim.precision import lower_forward

_OPTIMIZERS = {
    SparseOptimizerName.sgd: EmbOptimType.EXACT_SGD,
    SparseOptimizerName.adagrad: EmbOptimType.EXACT_ADAGRAD,
    SparseOptimizerName.rowwise_adagrad: EmbOptimType.EXACT_ROWWISE_ADAGRAD,
}


class BareLoop:
    """DLRM written out with nothing between torch and fbgemm."""

    def __init__(
        self,
        shape: Shape,
        *,
        optimizer: OptimizerConfig,
        batches: list[BareBatch],
        device: torch.device | None = None,
        precision: Precision = Precision.fp32,
    ) -> None:
        """Build the tables and layers; ``batches`` are on ``device`` already."""
        device = device or torch.device("cpu")
        self.device, self.shape, self.precision = device, shape, precision
        self.tables = _tables(shape, optimizer, device)
        with device:
            bottom = [shape.num_dense, *shape.bottom_mlp, shape.width]
            self.bottom_mlp = mlp(bottom, last_relu=True)
            self.top_mlp = mlp([shape.top_dim, *shape.top_mlp, 1], last_relu=False)
            size = shape.num_vectors
            rows, columns = torch.triu_indices(size, size, offset=1)
            self.flat_pair_index = rows * size + columns
            self.cross = _cross(shape)
        self._thin = list(zip(self.cross[::2], self.cross[1::2], strict=True))
        self.optimizer = torch_optimizer(self.parameters, optimizer.dense)
        self.batches: Iterator[BareBatch] = cycle(batches)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything but the tables."""
        parts = (self.bottom_mlp, self.cross, self.top_mlp)
        return [parameter for part in parts for parameter in part.parameters()]

    def run(self, num_steps: int) -> int:
        """Take steps on the batches in memory, over and over; return the examples."""
        return sum(self._step(next(self.batches)) for _ in range(num_steps))

    def predict(self, num_steps: int) -> int:
        """Run the model forward alone on so many batches; return the examples."""
        examples = 0
        with torch.no_grad():
            for _ in range(num_steps):
                batch = next(self.batches)
                self.logits(batch)
                examples += len(batch.labels)
        self._wait()
        return examples

    def logits(self, batch: BareBatch) -> torch.Tensor:
        """Return the batch's logits, [B]."""
        dense_BD = self.bottom_mlp(batch.dense)
        pooled = self.tables(batch.indices, batch.offsets)
        joined_BI = torch.cat([dense_BD, pooled], dim=1)
        if self.shape.cross_layers:
            taken_in = self._crossed(joined_BI)
        else:
            taken_in = self._paired(dense_BD, joined_BI)
        logits: torch.Tensor = self.top_mlp(taken_in)
        return logits.squeeze(1)

    def _paired(self, dense_BD: torch.Tensor, joined_BI: torch.Tensor) -> torch.Tensor:
        x_BFD = joined_BI.view(len(joined_BI), -1, self.shape.width)
        gram = torch.bmm(x_BFD, x_BFD.transpose(1, 2)).flatten(1)
        pairs_BP = gram.index_select(1, self.flat_pair_index)
        return torch.cat([dense_BD, pairs_BP], dim=1)

    def _crossed(self, first_BI: torch.Tensor) -> torch.Tensor:
        x_BI = first_BI
        for down, up in self._thin:
            x_BI = first_BI * up(down(x_BI)) + x_BI
        return x_BI

    def _step(self, batch: BareBatch) -> int:
        with lower_forward(self.precision, self.device):
            logits = self.logits(batch)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._wait()
        return len(batch.labels)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _tables(
    shape: Shape, optimizer: OptimizerConfig, device: torch.device
) -> SplitTableBatchedEmbeddingBagsCodegen:
    cuda = device.type == "cuda"
    location = EmbeddingLocation.DEVICE if cuda else EmbeddingLocation.HOST
    compute = ComputeDevice.CUDA if cuda else ComputeDevice.CPU
    tables = SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, shape.width, location, compute) for rows in shape.table_rows],
        optimizer=_OPTIMIZERS[optimizer.sparse.name],
        learning_rate=optimizer.sparse.lr,
        eps=optimizer.sparse.eps,
        pooling_mode=PoolingMode.SUM,
        device=device if cuda else None,
    )
    tables.init_embedding_weights_uniform(-0.01, 0.01)
    return tables


def _cross(shape: Shape) -> nn.ModuleList:
    """Return the cross's thin matrices in turns: down without, up with a bias."""
    inputs, layers = shape.top_dim, nn.ModuleList()
    for _ in range(shape.cross_layers):
        layers.append(nn.Linear(inputs, shape.cross_rank, bias=False))
        layers.append(nn.Linear(shape.cross_rank, inputs))
    return layers
