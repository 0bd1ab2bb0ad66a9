"""Timers on a training step: on the loader, on modules and on autograd's nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedTensor

from dlrm.trainer import Trainer

FORWARD, BACKWARD = "forward", "backward"
"""Keys of the whole passes, which enclose other pieces."""


@dataclass(slots=True)
class Clock:
    """Seconds by piece."""

    synchronize: Callable[[], None]
    seconds: dict[str, float] = field(default_factory=dict)

    def now(self) -> float:
        """Return the time once all work handed to a GPU is done."""
        self.synchronize()
        return time.perf_counter()

    def add(self, piece: str, started: float) -> None:
        """Count the time since ``started``."""
        spent = self.now() - started
        self.seconds[piece] = self.seconds.get(piece, 0.0) + spent


def piece_of(module: nn.Module) -> str | None:
    """Return what kind of work a module does, by the room that it is defined in."""
    home = type(module).__module__
    if home.startswith(("dlrm.embeddings.", "torchrec.")):
        return "embedding"
    if home == "dlrm.layers.mlp" or isinstance(module, nn.Linear):
        return "mlp"
    return "interaction" if home.startswith("dlrm.layers.") else None


@contextmanager
def data_timed(trainer: Trainer, clock: Clock) -> Iterator[None]:
    """Time the wait for each batch."""
    pipeline = trainer.learner.pipeline
    original = pipeline.batches

    def timed(*args: Any, **options: Any) -> Iterator[Any]:
        batches = original(*args, **options)
        try:
            while True:
                started = clock.now()
                batch = next(batches, None)
                clock.add("data", started)
                if batch is None:
                    return
                yield batch
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    pipeline.batches = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        pipeline.batches = original  # type: ignore[method-assign]


@contextmanager
def optimizer_timed(trainer: Trainer, clock: Clock) -> Iterator[None]:
    """Time the dense optimizer's steps."""
    started = [0.0]

    def before(*_: Any) -> None:
        started[0] = clock.now()

    def after(*_: Any) -> None:
        clock.add("optimizer", started[0])

    optimizer = trainer.learner.dense_optimizer
    handles = [
        optimizer.register_step_pre_hook(before),
        optimizer.register_step_post_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def backward_timed(_: Trainer, clock: Clock) -> Iterator[None]:
    """Time backward passes as a whole."""
    original = torch.Tensor.backward

    def timed(self: torch.Tensor, *args: Any, **options: Any) -> None:
        started = clock.now()
        original(self, *args, **options)  # type: ignore[no-untyped-call]
        clock.add(BACKWARD, started)

    torch.Tensor.backward = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.backward = original  # type: ignore[method-assign]


@contextmanager
def modules_timed(trainer: Trainer, clock: Clock) -> Iterator[None]:
    """Time the forward pass of the outermost modules of a kind, and their backward."""
    hooks = _Hooks(clock)
    model = trainer.learner.model
    handles: list[Any] = hooks.watch_whole(model)
    for module in model.modules():
        piece = piece_of(module)
        if module is not model and piece is not None:
            handles += hooks.watch(module, piece)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Hooks:
    """Marks on modules; a module inside a marked one is part of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._depth = 0
        self._started = 0.0
        self._whole_started = 0.0

    def watch_whole(self, model: nn.Module) -> list[Any]:
        def before(*_: Any) -> None:
            self._whole_started = self._clock.now()

        def after(*_: Any) -> None:
            self._clock.add(FORWARD, self._whole_started)

        return [
            model.register_forward_pre_hook(before),
            model.register_forward_hook(after),
        ]

    def watch(self, module: nn.Module, piece: str) -> list[Any]:
        def before(*_: Any) -> None:
            self._depth += 1
            if self._depth == 1:
                self._started = self._clock.now()

        def after(_: nn.Module, inputs: Any, output: Any) -> None:
            self._depth -= 1
            if self._depth == 0:
                self._clock.add(f"{piece} forward", self._started)
                backward = "update" if piece == "embedding" else f"{piece} backward"
                for node in _nodes(tensors_in(output), tensors_in(inputs)):
                    self._watch_node(node, backward)

        return [
            module.register_forward_pre_hook(before),
            module.register_forward_hook(after),
        ]

    def _watch_node(self, node: Any, piece: str) -> None:
        started = [0.0]

        def before(*_: Any) -> None:
            started[0] = self._clock.now()

        def after(*_: Any) -> None:
            self._clock.add(piece, started[0])

        node.register_prehook(before)
        node.register_hook(after)


def _nodes(outputs: list[torch.Tensor], inputs: list[torch.Tensor]) -> list[Any]:
    """Return autograd's nodes between a module's inputs and its outputs.

    Leaves are left out: their nodes outlive the step, and hooks on them would pile up.
    """
    seen = {tensor.grad_fn for tensor in inputs if tensor.grad_fn is not None}
    pending = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    found = []
    while pending:
        node = pending.pop()
        if node in seen or node.name() == "torch::autograd::AccumulateGrad":
            continue
        seen.add(node)
        found.append(node)
        pending += [parent for parent, _ in node.next_functions if parent is not None]
    return found


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors in what a module takes or gives."""
    match value:
        case torch.Tensor():
            return [value]
        case KeyedTensor():
            return [value.values()]
        case dict():
            return [t for each in value.values() for t in tensors_in(each)]
        case list() | tuple():
            return [t for each in value for t in tensors_in(each)]
    return []
