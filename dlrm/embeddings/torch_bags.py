"""Tables of one width in one flat weight, looked up and trained by torch's own kernels.

Shape suffixes: B = batch, F = features, N = ids, D = width, R = rows of all tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torchrec.modules.embedding_configs import PoolingType

from dlrm.embeddings.admission import Admission
from dlrm.embeddings.flat_bags import FlatBags
from dlrm.embeddings.kernel_options import KernelOptions, TableConfig
from dlrm.embeddings.row_training import RowTraining
from dlrm.embeddings.row_values import RowValues
from dlrm.embeddings.table_layout import TableLayout

Exchange: TypeAlias = Callable[[FlatBags, torch.Tensor], tuple[FlatBags, torch.Tensor]]


class TorchBags:
    """Tables of one width whose lookup updates them in its backward pass.

    Meets ``Bags``. All tables lie in one weight [R, D], so that one sort of the batch's
    ids finds the uses of every row of every table.

    A sharded backend may give the memory of the weight, and take the parts of
    ``pooled`` one by one: ``flatten``, ``look_up``, then, of the gradient of the
    pooled vectors, ``bag_gradients`` and ``update``. ``look_up`` changes nothing;
    ``update`` alone changes rows, state and counters. Replicas that see parts of a
    batch set ``exchange``, and every one of them takes the step of the whole batch.
    """

    def __init__(
        self,
        tables: Sequence[TableConfig],
        options: KernelOptions,
        *,
        device: torch.device,
        weight: torch.Tensor | None = None,
    ) -> None:
        """Allocate the tables, zeros unless ``weight`` is given, and their state.

        Args:
            tables: As the weight holds them, one below another; their number of rows
                and their padding are those of the weight.
            options: Of all tables.
            device: Of tables and input.
            weight: [R, D] of the options' type.
        """
        self.tables, self._options = list(tables), options
        self._layout = TableLayout(self.tables, device)
        num_rows, self._dim = self._layout.num_rows, options.embedding_dim
        if weight is None:
            shape = (num_rows, self._dim)
            weight = torch.zeros(shape, dtype=options.dtype, device=device)
        self._weight = weight
        self._admission: Admission | None = None
        if options.admit_after:
            self._admission = Admission(
                num_rows, after=options.admit_after, device=device
            )
        self._values = RowValues(weight, options, self._admission)
        self._training: RowTraining | None = None
        if options.optimizer is not None:
            self._training = RowTraining(
                weight,
                options,
                options.optimizer,
                padding=self._layout.padding_rows,
                admission=self._admission,
            )
        # Autograd calls a backward only where some input wants a gradient.
        self._anchor = torch.zeros(0, device=device, requires_grad=self.is_trained)
        self.exchange: Exchange | None = None
        """Called in backward with the bags and their gradients before ``update``;
        returns those of all replicas, the same on each."""

    @property
    def is_trained(self) -> bool:
        """Say whether ``update`` changes anything."""
        return self._training is not None

    def pooled(
        self,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """See ``Bags``."""
        bags = self.flatten(ids, offsets, weights)
        vectors: torch.Tensor = _Lookup.apply(  # type: ignore[no-untyped-call]
            self._anchor, bags.weights, bags, self
        )
        return vectors

    def flatten(
        self, ids: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor | None
    ) -> FlatBags:
        """Return ``pooled``'s input as bags of rows of the one weight.

        Raises:
            IndexError: An id is out of its table's range.
        """
        if self._options.pooling is PoolingType.NONE:
            return self._layout.flatten_rows(ids, offsets)
        return self._layout.flatten(ids, offsets, weights)

    def look_up(self, bags: FlatBags) -> torch.Tensor:
        """Return the pooled vectors [B, F * D], or [N, D] where nothing is pooled."""
        pooling = self._options.pooling
        if pooling is PoolingType.NONE:
            return self._values.of(bags.ids)
        ids, table = bags.ids, self._weight
        if not self._values.are_stored:
            table = self._values.of(bags.ids)
            ids = torch.arange(ids.numel(), dtype=ids.dtype, device=ids.device)
        vectors = F.embedding_bag(
            ids,
            table,
            bags.offsets,
            mode="mean" if pooling is PoolingType.MEAN else "sum",
            per_sample_weights=bags.weights,
            include_last_offset=True,
        )
        return vectors.view(-1, self._layout.num_features * self._dim)

    def bag_gradients(self, bags: FlatBags, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of each bag's sum, one row a bag, [B * F, D]."""
        optimizer = self._options.optimizer
        clip = None if optimizer is None else optimizer.clip_value
        if clip is not None:
            gradient = gradient.clamp(-clip, clip)
        per_bag = gradient.reshape(-1, self._dim)
        mean = self._options.pooling is PoolingType.MEAN
        if mean and bags.bag_of_id is not None:
            per_bag = per_bag / bags.offsets.diff().clamp(min=1)[:, None]
        return per_bag

    def weight_gradients(self, bags: FlatBags, per_bag: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the ids' weights, [N]."""
        bag_of_id = bags.bag_of_id
        per_id = per_bag if bag_of_id is None else per_bag.index_select(0, bag_of_id)
        return (self._values.of(bags.ids) * per_id).sum(1)

    def update(self, bags: FlatBags, per_bag: torch.Tensor) -> None:
        """Take one step with the gradients of the bags' sums, [bags, D]."""
        if self._training is not None:
            self._training.step_rows(bags, per_bag)

    def weight(self, index: int) -> torch.Tensor:
        """See ``Bags``."""
        return self._weight[self._layout.rows(index)]

    def settle(self) -> None:
        """See ``Bags``."""

    def optimizer_state(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        state = {} if self._training is None else self._training.state
        rows = self._layout.rows(index)
        return {name: values[rows] for name, values in state.items()}

    def counters(self, index: int) -> dict[str, torch.Tensor]:
        """See ``Bags``."""
        if self._admission is None:
            return {}
        return {"uses": self._admission.uses[self._layout.rows(index)]}

    @property
    def step(self) -> int:
        """Steps taken so far; 0 for optimizers that do not count them."""
        return 0 if self._training is None else self._training.step

    @step.setter
    def step(self, step: int) -> None:
        if self._training is not None:
            self._training.step = step

    def set_rate_factor(self, factor: float) -> None:
        """See ``Bags``."""
        if self._training is not None:
            self._training.rate_factor = factor

    @property
    def generator(self) -> torch.Generator | None:
        """The noise of stochastic rounding; torch's own generator where None.

        Replicas must have generators of one state, or their rows part.
        """
        return None if self._training is None else self._training.generator

    @generator.setter
    def generator(self, generator: torch.Generator | None) -> None:
        if self._training is not None:
            self._training.generator = generator


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
        return tables.look_up(bags)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Step every touched row; return the gradient of the ids' weights."""
        bags, tables = ctx.bags, ctx.tables
        per_bag = tables.bag_gradients(bags, gradient)
        of_weights = None
        if ctx.needs_input_grad[1]:
            of_weights = tables.weight_gradients(bags, per_bag)
        if tables.exchange is not None and tables.is_trained:
            bags, per_bag = tables.exchange(bags, per_bag)
        tables.update(bags, per_bag)
        return None, of_weights, None, None
