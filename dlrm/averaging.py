"""A moving average of a model's weights, which often predicts better than they do.

Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", in
the exponential form that forgets the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dlrm.checkpoints.dense import dense_tensors
from dlrm.config.errors import ConfigError
from dlrm.distributed.job import ALONE, Job
from dlrm.embeddings.state import table_parts


class WeightAverage:
    """The average a of all weights w: a += (1 - d) (w - a) after every step.

    ``d`` is min(decay, (1 + t) / (10 + t)) at step t, so that the start is soon
    forgotten. It takes as much memory as the weights, and every step reads all of them:
    it is meant for tables that are small beside a batch's work. Batch norm's running
    statistics are averaged like weights. Each process averages the parts of tables that
    it keeps.
    """

    def __init__(self, model: nn.Module, decay: float, job: Job = ALONE) -> None:
        """Start from the weights of today; all processes of ``job`` do so together.

        Raises:
            ConfigError: A table has 16 bits, in which small steps would be lost.
        """
        self.decay = decay
        self._parts = table_parts(model)
        job.together(lambda: _check_types(model))
        self._live = _weights(model)
        self.values = {name: tensor.clone() for name, tensor in self._live.items()}
        """The average; while it is in use, the weights that training goes on with."""

    def restart(self) -> None:
        """Begin anew from the weights of today."""
        self._settle()
        for name, tensor in self._live.items():
            self.values[name].copy_(tensor)

    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        self._settle()
        values, live = list(self.values.values()), list(self._live.values())
        torch._foreach_lerp_(values, live, 1.0 - decay)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the model hold the average; its own weights come back after."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        """Swap the model's weights and ``values``."""
        self._settle()
        for name, tensor in self._live.items():
            kept = tensor.clone()
            tensor.copy_(self.values[name])
            self.values[name].copy_(kept)

    def _settle(self) -> None:
        """Make the live views of tables current, before they are read or written."""
        for part in self._parts:
            part.bags.settle()


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return live floating-point tensors: see ``dlrm.checkpoints.dense.Weights``."""
    dense, _ = dense_tensors(model, None)
    found = {name: t for name, t in dense.items() if t.is_floating_point()}
    return found | {part.key: part.weight for part in table_parts(model)}


def _check_types(model: nn.Module) -> None:
    for name, tensor in _weights(model).items():
        if tensor.dtype != torch.float32:
            raise ConfigError(
                f"trainer.average_decay needs float32 weights, but {name} is "
                f"{str(tensor.dtype).removeprefix('torch.')}. Leave it out, or set "
                f"model.embedding_dtype and tables.<name>.dtype to float32."
            )
