"""One step's examples. Shape suffixes: B = batch, N = dense columns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor
from torchrec.streamable import Pipelineable


# Not a base class: those of torchrec have no slots.
@Pipelineable.register
@dataclass(slots=True)
class Batch:
    """Dense matrix, one ``KeyedJaggedTensor`` a group, labels, weights and row numbers.

    ``dense`` is [B, N] float32; ``labels`` and ``weights`` are [B] float32; ``row_ids``
    is [B] int64, the row's place in its split. ``sparse`` maps a group of the schema
    (``pooled``, ``weighted``) to its features' bags, keys in schema order. Padding rows
    have empty bags, weight 0 and row id -1.

    Where labels are classes, ``labels`` is 0 and ``classes`` holds each row's class
    ids, int32: -1 is a class that training never saw. Padding rows have none.
    """

    dense: torch.Tensor
    sparse: dict[str, KeyedJaggedTensor]
    labels: torch.Tensor
    weights: torch.Tensor
    row_ids: torch.Tensor
    classes: JaggedTensor | None = None

    def __len__(self) -> int:
        """Return the number of examples, padding included."""
        return self.labels.shape[0]

    def padded(self, size: int) -> Batch:
        """Return the batch with padding rows behind its own, ``size`` in all.

        Raises:
            ValueError: It has more rows than that.
        """
        if size < len(self):
            raise ValueError(f"size must be >= {len(self)} rows, but it is {size}.")
        if size == len(self):
            return self
        return Batch(
            dense=_longer(self.dense, size),
            sparse={
                name: _padded_bags(bags, size) for name, bags in self.sparse.items()
            },
            labels=_longer(self.labels, size),
            weights=_longer(self.weights, size),
            row_ids=_longer(self.row_ids, size, fill=-1),
            classes=None
            if self.classes is None
            else JaggedTensor(
                values=self.classes.values(),
                lengths=_longer(self.classes.lengths(), size),
            ),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """Copy all tensors to ``device``."""
        return Batch(
            dense=self.dense.to(device, non_blocking=non_blocking),
            sparse={
                group: bags.to(device, non_blocking=non_blocking)
                for group, bags in self.sparse.items()
            },
            labels=self.labels.to(device, non_blocking=non_blocking),
            weights=self.weights.to(device, non_blocking=non_blocking),
            row_ids=self.row_ids.to(device, non_blocking=non_blocking),
            classes=None
            if self.classes is None
            else self.classes.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Copy all tensors to page-locked memory."""
        return dataclasses.replace(
            self,
            dense=self.dense.pin_memory(),
            sparse={group: bags.pin_memory() for group, bags in self.sparse.items()},
            labels=self.labels.pin_memory(),
            weights=self.weights.pin_memory(),
            row_ids=self.row_ids.pin_memory(),
            classes=None if self.classes is None else _pinned(self.classes),
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory of all tensors until ``stream`` has used them."""
        for tensor in (self.dense, self.labels, self.weights, self.row_ids):
            tensor.record_stream(stream)
        for bags in self.sparse.values():
            bags.record_stream(stream)
        if self.classes is not None:
            self.classes.record_stream(stream)


def _longer(values: torch.Tensor, size: int, *, fill: int = 0) -> torch.Tensor:
    """Return a copy with rows of ``fill`` behind, ``size`` in all."""
    longer = values.new_full((size, *values.shape[1:]), fill)
    longer[: len(values)] = values
    return longer


def _padded_bags(bags: KeyedJaggedTensor, size: int) -> KeyedJaggedTensor:
    """Return the same bags with empty ones behind those of each key."""
    keys = bags.keys()
    lengths = bags.lengths().new_zeros(len(keys), size)
    lengths[:, : bags.stride()] = bags.lengths().view(len(keys), -1)
    return KeyedJaggedTensor(
        keys=keys,
        values=bags.values(),
        weights=bags.weights_or_none(),
        lengths=lengths.view(-1),
        stride=size,
        length_per_key=bags.length_per_key(),
        offset_per_key=bags.offset_per_key(),
    )


def _pinned(classes: JaggedTensor) -> JaggedTensor:
    return JaggedTensor(
        values=classes.values().pin_memory(), lengths=classes.lengths().pin_memory()
    )
