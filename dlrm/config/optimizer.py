"""The ``optimizer`` section: tables, dense parameters, and the schedule of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dlrm.config.checks import require


class SparseOptimizerName(Enum):
    """Optimizers of embedding tables. Each touches the looked-up rows alone."""

    sgd = "sgd"
    adagrad = "adagrad"
    rowwise_adagrad = "rowwise_adagrad"
    """One accumulator a row: the mean of the squared gradient over the row's
    columns."""
    adam = "adam"
    """Lazy: a row's moments move when it is looked up; bias correction counts all
    steps."""
    partial_rowwise_adam = "partial_rowwise_adam"
    lamb = "lamb"
    partial_rowwise_lamb = "partial_rowwise_lamb"
    lars_sgd = "lars_sgd"


class Decay(Enum):
    """How the learning rate falls after warm-up."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"
    polynomial = "polynomial"


@dataclass(kw_only=True, slots=True)
class SparseOptimizer:
    """Fused into the backward pass of the embedding tables."""

    name: SparseOptimizerName = SparseOptimizerName.rowwise_adagrad
    lr: float = 0.2
    eps: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.999
    momentum: float = 0.9
    """For ``lars_sgd``."""
    weight_decay: float = 0.0
    """L2 on the rows a batch touches, added to their gradient; untouched rows do not
    decay."""
    clip_value: float | None = None
    """Elementwise limit on the gradient of the pooled vectors, before it reaches
    rows."""
    clip_norm: float | None = None
    """Refused: rows are updated inside backward, before a norm over all tables
    exists."""

    def check(self, key: str) -> None:
        """Check ranges; ``key`` is this section's key as typed."""
        require(self.lr > 0, f"{key}.lr", "above 0", self.lr)
        decay = self.weight_decay
        require(decay >= 0, f"{key}.weight_decay", ">= 0", decay)
        clip = self.clip_value
        require(clip is None or clip > 0, f"{key}.clip_value", "above 0", clip)
        require(
            self.clip_norm is None,
            f"{key}.clip_norm",
            "unset, because fused tables update rows inside backward, before a global "
            "norm exists",
            self.clip_norm,
            f"Use {key}.clip_value, the elementwise limit of the fused kernels.",
        )
        for name in ("beta1", "beta2", "momentum"):
            rate = getattr(self, name)
            require(0 <= rate < 1, f"{key}.{name}", "in [0, 1)", rate)
        require(self.eps >= 0, f"{key}.eps", ">= 0", self.eps)


@dataclass(kw_only=True, slots=True)
class DenseOptimizer:
    """Any optimizer of ``torch.optim`` that steps without a closure, for all else."""

    name: str = "Adam"
    """The class name in ``torch.optim``, in any case: ``Adam``, ``sgd``, ``adamw``."""
    lr: float = 5e-3
    weight_decay: float = 0.0
    clip_norm: float | None = None
    """Limit on the global L2 norm of the dense parameters' gradients."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class, such as ``{momentum: 0.9}``."""


@dataclass(kw_only=True, slots=True)
class Schedule:
    """A factor on both learning rates: linear warm-up from 0, then decay."""

    warmup_steps: int = 0
    decay: Decay = Decay.constant
    decay_steps: int | None = None
    """Steps from the end of warm-up to the lowest rate; the rest of the run where not
    set."""
    min_factor: float = 0.0
    """Where decay ends, as a share of the learning rate."""
    power: float = 2.0
    """For ``polynomial``: factor = (1 - progress) ** power."""


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """The three parts of optimisation."""

    sparse: SparseOptimizer = field(default_factory=SparseOptimizer)
    dense: DenseOptimizer = field(default_factory=DenseOptimizer)
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        """Check ranges, naming keys as typed.

        Raises:
            ConfigError: A value is out of range.
        """
        self.sparse.check("optimizer.sparse")
        dense = self.dense
        require(dense.lr > 0, "optimizer.dense.lr", "above 0", dense.lr)
        decay = dense.weight_decay
        require(decay >= 0, "optimizer.dense.weight_decay", ">= 0", decay)
        clip = dense.clip_norm
        require(clip is None or clip > 0, "optimizer.dense.clip_norm", "above 0", clip)
        warmup = self.schedule.warmup_steps
        require(warmup >= 0, "optimizer.schedule.warmup_steps", ">= 0", warmup)
        steps = self.schedule.decay_steps
        sound = steps is None or steps >= 1
        require(sound, "optimizer.schedule.decay_steps", ">= 1", steps)
        power = self.schedule.power
        require(power > 0, "optimizer.schedule.power", "above 0", power)
        floor = self.schedule.min_factor
        require(0 <= floor <= 1, "optimizer.schedule.min_factor", "in [0, 1]", floor)
