"""One step on the rows of one weight: which rows, with which gradient, by which rule.

Shape suffixes: U = rows of an update, each once; D = width; R = rows of all tables.
"""

from __future__ import annotations

import torch

from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.admission import Admission
from dlrm.embeddings.flat_bags import (
    FlatBags,
    RowUses,
    find_all_row_uses,
    find_row_uses,
)
from dlrm.embeddings.kernel_options import KernelOptions
from dlrm.embeddings.renorm import rescale
from dlrm.embeddings.row_rounding import Rounding, read_rows, write_rows
from dlrm.embeddings.row_updates import COUNTS_STEPS, STATE_IS_ROWWISE, update_rows

# Values of one chunk of rows: its gradient, moments and scratch then stay in cache, and
# its memory is reused, not mapped anew, by the chunk after it.
_VALUES_PER_CHUNK = 2**18


class RowTraining:
    """The optimizer of one weight, and its state."""

    def __init__(
        self,
        weight: torch.Tensor,
        options: KernelOptions,
        optimizer: SparseOptimizer,
        *,
        padding: list[int],
        admission: Admission | None,
    ) -> None:
        """Allocate state of zeros.

        Args:
            weight: [R, D], changed by every step.
            options: Of the weight.
            optimizer: Of the weight.
            padding: Rows that are never trained.
            admission: Says which rows are trained, where not all are.
        """
        self._weight, self._options, self._optimizer = weight, options, optimizer
        num_rows, dim = weight.shape
        self.state = {
            name: torch.zeros(
                (num_rows,) if rowwise else (num_rows, dim), device=weight.device
            )
            for name, rowwise in STATE_IS_ROWWISE[optimizer.name].items()
        }
        """Float32, whatever the weight's type."""
        self.step = 0
        """Steps taken so far, where bias correction counts them."""
        self.rate_factor = 1.0
        self.generator: torch.Generator | None = None
        self._admission = admission
        self._padding = torch.tensor(padding, device=weight.device) if padding else None

    def step_rows(self, bags: FlatBags, per_bag: torch.Tensor) -> None:
        """Take one step with the gradients of the bags' sums, [bags, D]."""
        self.step += self._optimizer.name in COUNTS_STEPS
        dense = self._options.dense_gradient
        if bags.ids.numel() == 0 and not dense:
            return
        num_rows = len(self._weight)
        uses = find_all_row_uses(bags, num_rows) if dense else find_row_uses(bags)
        if self._options.max_norm is not None:
            self._limit_norms(uses.used()[0])
        size = _VALUES_PER_CHUNK // self._weight.shape[1] or 1
        on_gpu = self._weight.is_cuda
        for rows, part in uses.chunks(uses.rows.numel() if on_gpu else size):
            self._step_chunk(uses, rows, part, per_bag)
        if self._admission is not None:
            self._admission.count(*uses.used())

    def _step_chunk(
        self, uses: RowUses, rows: slice, part: slice, per_bag: torch.Tensor
    ) -> None:
        touched, gradient = uses.rows[rows], uses.gradient(per_bag, rows, part)
        if self._options.scale_grad_by_freq:
            gradient.div_(uses.counts(rows).clamp(min=1)[:, None])
        trained = self._trained(touched)
        if trained is not None:
            touched, gradient = touched[trained], gradient[trained]
        update_rows(
            self._optimizer,
            weight=self._weight,
            state=self.state,
            rows=touched,
            gradient=gradient,
            lr=self._optimizer.lr * self.rate_factor,
            step=self.step,
            rounding=Rounding(self._options.stochastic_rounding, self.generator),
        )

    def _limit_norms(self, rows: torch.Tensor) -> None:
        """Store ``rows`` [U] as lookups have seen them."""
        trained = self._trained(rows)
        rows = rows if trained is None else rows[trained]
        max_norm = self._options.max_norm
        assert max_norm is not None
        values = read_rows(self._weight, rows)
        limited = rescale(values, max_norm=max_norm, norm_type=self._options.norm_type)
        write_rows(self._weight, rows, limited)

    def _trained(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Say which ``rows`` [U] are trained, [U] bool; None where all are."""
        trained = None
        if self._padding is not None:
            trained = torch.isin(rows, self._padding, invert=True)
        if self._admission is not None:
            admitted = self._admission.admitted(rows)
            trained = admitted if trained is None else trained & admitted
        return trained
