"""A stand-in for facebookresearch/dlrm: its choices, with batches already in memory.

One ``nn.EmbeddingBag`` with a sparse gradient a table, the pairs picked out of the Gram
matrices by two index tensors, and one SGD for everything.

Shape suffixes: B = batch, F = vectors, D = their width, P = pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import nn

from dlrm.bench.yardstick import BareBatch, Shape, mlp, torch_optimizer
from dlrm.config.optimizer import OptimizerConfig


@dataclass(frozen=True, slots=True)
class BagBatch:
    """A batch as separate bags a table take it."""

    dense: torch.Tensor
    bags: list[tuple[torch.Tensor, torch.Tensor]]
    """Ids and offsets [B] of each table."""
    labels: torch.Tensor


class EmbeddingBagsLoop:
    """DLRM with dot interaction over separate tables."""

    def __init__(
        self, shape: Shape, *, optimizer: OptimizerConfig, batches: list[BareBatch]
    ) -> None:
        """Build the model; each batch is cut into one bag tensor a table."""
        tables = [
            nn.EmbeddingBag(rows, shape.width, mode="sum", sparse=True)
            for rows in shape.table_rows
        ]
        for table in tables:
            nn.init.uniform_(table.weight, -0.01, 0.01)
        self.tables = nn.ModuleList(tables)
        bottom = [shape.num_dense, *shape.bottom_mlp, shape.width]
        self.bottom_mlp = mlp(bottom, last_relu=True)
        self.top_mlp = mlp([shape.top_dim, *shape.top_mlp, 1], last_relu=False)
        pairs = [(i, j) for i in range(shape.num_vectors) for j in range(i)]
        self.first_of_pair = torch.tensor([i for i, _ in pairs])
        self.second_of_pair = torch.tensor([j for _, j in pairs])
        parts = (self.tables, self.bottom_mlp, self.top_mlp)
        parameters = [parameter for part in parts for parameter in part.parameters()]
        self.optimizer = torch_optimizer(parameters, optimizer.dense)
        cut = [_cut(batch, len(shape.table_rows)) for batch in batches]
        self.batches: Iterator[BagBatch] = cycle(cut)

    def run(self, num_steps: int) -> int:
        """Take steps on the batches in memory, over and over; return the examples."""
        return sum(self._step(next(self.batches)) for _ in range(num_steps))

    def logits(self, batch: BagBatch) -> torch.Tensor:
        """Return the batch's logits, [B]."""
        dense_BD = self.bottom_mlp(batch.dense)
        pooled = [
            table(ids, offsets)
            for table, (ids, offsets) in zip(self.tables, batch.bags, strict=True)
        ]
        joined = torch.cat([dense_BD, *pooled], dim=1)
        x_BFD = joined.view(len(batch.labels), -1, dense_BD.shape[1])
        gram_BFF = torch.bmm(x_BFD, x_BFD.transpose(1, 2))
        pairs_BP = gram_BFF[:, self.first_of_pair, self.second_of_pair]
        logits: torch.Tensor = self.top_mlp(torch.cat([dense_BD, pairs_BP], dim=1))
        return logits.squeeze(1)

    def _step(self, batch: BagBatch) -> int:
        logits = self.logits(batch)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return len(batch.labels)


def _cut(batch: BareBatch, num_tables: int) -> BagBatch:
    size = len(batch.labels)
    bags = []
    for table in range(num_tables):
        offsets = batch.offsets[table * size : (table + 1) * size + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        bags.append((batch.indices[first:last].clone(), offsets[:-1] - first))
    return BagBatch(batch.dense, bags, batch.labels)
