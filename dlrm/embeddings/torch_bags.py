"""Tables of one width in one flat weight, looked up and trained by torch's own kernels.

Shape suffixes: B = batch, F = features, N = ids, D = width, R = rows of all tables.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType

from dlrm.config.optimizer import SparseOptimizer
from dlrm.embeddings.bags import table_of_feature
from dlrm.embeddings.flat_bags import FlatBags, find_row_uses, flatten
from dlrm.embeddings.row_updates import COUNTS_STEPS, STATE_IS_ROWWISE, update_rows

# Values of one chunk of rows: its gradient, moments and scratch then stay in cache, and
# its memory is reused, not mapped anew, by the chunk after it.
_VALUES_PER_CHUNK = 2**18


class TorchBags:
    """Tables of one width whose lookup updates them in its backward pass.

    Meets ``Bags``. All tables lie in one weight [R, D], so that one sort of the batch's
    ids finds the uses of every row of every table.
    """

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
        self.step = 0
        self._pooling, self._options, self._lr = pooling, options, options.lr
        sizes = [table.num_embeddings for table in tables]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        num_rows, self._dim = self._starts[-1], tables[0].embedding_dim
        self._weight = torch.zeros(num_rows, self._dim, device=device)
        self._state = {
            name: torch.zeros((num_rows,) if rowwise else (num_rows, self._dim)).to(
                device
            )
            for name, rowwise in STATE_IS_ROWWISE[options.name].items()
        }
        owners = table_of_feature(tables)
        self._id_type = torch.int32 if num_rows < 2**31 else torch.int64
        self._first_row = torch.tensor(
            [self._starts[i] for i in owners], dtype=self._id_type, device=device
        )
        self._num_rows = torch.tensor(
            [sizes[i] for i in owners], dtype=self._id_type, device=device
        )
        # Autograd calls a backward only where some input wants a gradient.
        self._anchor = torch.zeros(0, device=device, requires_grad=True)

    def pooled(
        self,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Bags``."""
        bags = flatten(
            ids,
            offsets,
            weights,
            first_row=self._first_row,
            num_rows=self._num_rows,
        )
        vectors: torch.Tensor = _Lookup.apply(  # type: ignore[no-untyped-call]
            self._anchor, bags.weights, bags, self
        )
        return vectors

    def weight(self, index: int) -> torch.Tensor:
        """See ``Bags``."""
        return self._weight[self._starts[index] : self._starts[index + 1]]

    def optimizer_state(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        first, last = self._starts[index], self._starts[index + 1]
        return {name: values[first:last] for name, values in self._state.items()}

    def set_learning_rate(self, lr: float) -> None:
        """See ``Bags``."""
        self._lr = lr

    def _look_up(self, bags: FlatBags) -> torch.Tensor:
        pooled = F.embedding_bag(
            bags.ids,
            self._weight,
            bags.offsets,
            mode="mean" if self._pooling is PoolingType.MEAN else "sum",
            per_sample_weights=bags.weights,
            include_last_offset=True,
        )
        return pooled.view(-1, self._first_row.numel() * self._dim)

    def _bag_gradients(self, bags: FlatBags, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of each bag's sum, one row a bag, [B * F, D]."""
        clip = self._options.clip_value
        if clip is not None:
            gradient = gradient.clamp(-clip, clip)
        per_bag = gradient.reshape(-1, self._dim)
        if self._pooling is PoolingType.MEAN and bags.bag_of_id is not None:
            per_bag = per_bag / bags.offsets.diff().clamp(min=1)[:, None]
        return per_bag

    def _weight_gradients(self, bags: FlatBags, per_bag: torch.Tensor) -> torch.Tensor:
        bag_of_id = bags.bag_of_id
        per_id = per_bag if bag_of_id is None else per_bag.index_select(0, bag_of_id)
        return (self._weight.index_select(0, bags.ids) * per_id).sum(1)

    def _update(self, bags: FlatBags, per_bag: torch.Tensor) -> None:
        self.step += self._options.name in COUNTS_STEPS
        if bags.ids.numel() == 0:
            return
        uses = find_row_uses(bags)
        on_gpu = self._weight.is_cuda
        size = _VALUES_PER_CHUNK // self._dim or 1
        for rows, chunk in uses.chunks(uses.rows.numel() if on_gpu else size):
            update_rows(
                self._options,
                weight=self._weight,
                state=self._state,
                rows=uses.rows[rows],
                gradient=uses.gradient(per_bag, rows, chunk),
                lr=self._lr,
                step=self.step,
            )


class _Lookup(torch.autograd.Function):
    """Pools forward; updates the tables backward, where no gradient leaves for them."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: torch.Tensor,
        weights: torch.Tensor | None,
        bags: FlatBags,
        tables: TorchBags,
    ) -> torch.Tensor:
        """Return the pooled vectors; ``weights`` is there to receive a gradient."""
        ctx.bags, ctx.tables = bags, tables
        return tables._look_up(bags)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Step every touched row; return the gradient of the ids' weights."""
        per_bag = ctx.tables._bag_gradients(ctx.bags, gradient)
        of_weights = None
        if ctx.needs_input_grad[1]:
            of_weights = ctx.tables._weight_gradients(ctx.bags, per_bag)
        ctx.tables._update(ctx.bags, per_bag)
        return None, of_weights, None, None
