"""The matrix products of a model's step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from dlrm.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Gemm:
    """A matrix product of a layer, as its forward pass has it."""

    rows: int
    inputs: int
    outputs: int
    input_gradient: bool


class Gemms:
    """The matrix products of linear layers, as they are called; others by their shape.

    A fused layer calls no linear one: its weights then stand for a product with as many
    rows as the batch.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._batch_size = trainer.config.global_batch_size
        self._num_dense = trainer.run.schema.num_dense
        self._model = trainer.learner.model
        self._parameters = trainer.learner.dense_parameters
        self._called: dict[int, Gemm] = {}
        self._stopped = False

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Watch the linear layers of the model."""
        layers = [m for m in self._model.modules() if isinstance(m, nn.Linear)]
        handles = [layer.register_forward_hook(self._record) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def stop(self) -> None:
        """Record no more: every step has the same products."""
        self._stopped = True

    def found(self) -> list[Gemm]:
        """Return one product a layer."""
        for weight in self._parameters:
            if weight.dim() == 2 and id(weight) not in self._called:
                outputs, inputs = weight.shape
                # Raw inputs, which need no gradient, are told by their number alone.
                needed = inputs != self._num_dense
                gemm = Gemm(self._batch_size, inputs, outputs, needed)
                self._called[id(weight)] = gemm
        return list(self._called.values())

    def _record(self, layer: nn.Linear, inputs: Any, _: Any) -> None:
        if not self._stopped:
            (x,) = inputs
            self._called[id(layer.weight)] = Gemm(
                x.numel() // layer.in_features,
                layer.in_features,
                layer.out_features,
                x.requires_grad,
            )
