"""Lookups of float32 tables and their fused updates, by the library's operators.

Shape suffixes: B = batch, F = features, N = ids, R = rows, D = width of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch

MAX_ROWS = 2**31 - 1
"""Of one table."""


class BagPooling(Enum):
    """What becomes of a bag's rows; numbered as in ``csrc/embedding_bag.h``."""

    sum = 0
    mean = 1
    none = 2


class RowOptimizer(Enum):
    """Steps on a row, numbered as in ``csrc/embedding_bag.h``."""

    sgd = 0
    adagrad = 1
    rowwise_adagrad = 2
    adam = 3
    partial_rowwise_adam = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class RowStep:
    """One step of an optimizer, as the update of a lookup takes it."""

    optimizer: RowOptimizer
    lr: float
    eps: float
    weight_decay: float
    beta1: float
    beta2: float
    step: int
    """From 1."""

    def constants(self) -> list[float]:
        """Return what the operator reads: rates, and Adam's bias corrections."""
        betas = (self.beta1, self.beta2)
        rests = [1.0 - beta for beta in betas]
        corrections = [1.0 - beta**self.step for beta in betas]
        return [self.lr, self.eps, self.weight_decay, *betas, *rests, *corrections]


@dataclass(frozen=True, slots=True)
class BagBatch:
    """The bags of one batch, feature by feature, then example by example."""

    ids: torch.Tensor
    """[N] int32 or int64."""
    offsets: torch.Tensor
    """[F * B + 1] int32 or int64."""
    weights: torch.Tensor | None
    """[N] float32 factors of the ids; with sums alone."""
    pooling: BagPooling
    table_of_feature: list[int]
    """[F], ascending."""

    def pool(self, tables: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return bags' vectors side by side, [B, widths]; unpooled, rows [N, D].

        Raises:
            IndexError: An id is out of its table's range.
        """
        output: torch.Tensor = torch.ops.dlrm.embedding_pool(
            tables,
            self.table_of_feature,
            self.ids,
            self.offsets,
            self.weights,
            self.pooling.value,
        )
        return output

    def weight_gradients(
        self, tables: Sequence[torch.Tensor], gradient: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient of ``weights`` [N] from that of the sums."""
        of_ids: torch.Tensor = torch.ops.dlrm.embedding_weight_gradients(
            tables, self.table_of_feature, self.ids, self.offsets, gradient
        )
        return of_ids

    def update(
        self,
        tables: Sequence[torch.Tensor],
        states: Sequence[Sequence[torch.Tensor]],
        gradient: torch.Tensor,
        step: RowStep,
    ) -> None:
        """Take one step on every row in use.

        A row's gradient is summed over its uses in the order of the ids, whatever the
        number of threads.

        Args:
            tables: [R, D] each, changed in place.
            states: The optimizer's tensors, the first one of every table, then the
                second; changed in place.
            gradient: That of what ``pool`` returned, of any row stride.
            step: The optimizer and its constants.
        """
        first, second = [*states, [], []][:2]
        torch.ops.dlrm.embedding_update(
            tables,
            first,
            second,
            self.table_of_feature,
            self.ids,
            self.offsets,
            self.weights,
            self.pooling.value,
            gradient,
            step.optimizer.value,
            step.constants(),
        )


def zeros_on_large_pages(*shape: int) -> torch.Tensor:
    """Return float32 zeros on pages as large as the system gives.

    Random rows of a large table otherwise miss the cache of page addresses each time.
    """
    memory = torch.empty(shape)
    torch.ops.dlrm.advise_huge_pages(memory)
    return memory.zero_()
