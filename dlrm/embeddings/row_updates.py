"""Optimizer steps on the rows that a batch touched.

Shape suffixes: U = touched rows, each once; R = all rows; D = width. Throughout, g is a
row's gradient summed over all its uses in the batch, w its weights, lr the learning
rate, t the number of steps so far, this one included. Weight decay adds
``weight_decay * w`` to g first.
"""

from __future__ import annotations

import torch

from dlrm.config.optimizer import SparseOptimizer, SparseOptimizerName
from dlrm.embeddings.row_rounding import NEAREST, Rounding, read_rows, write_rows

_Name = SparseOptimizerName
_PER_COLUMN, _PER_ROW = False, True

STATE_IS_ROWWISE: dict[SparseOptimizerName, dict[str, bool]] = {
    _Name.sgd: {},
    _Name.adagrad: {"sum": _PER_COLUMN},
    _Name.rowwise_adagrad: {"sum": _PER_ROW},
    _Name.adam: {"exp_avg": _PER_COLUMN, "exp_avg_sq": _PER_COLUMN},
    _Name.partial_rowwise_adam: {"exp_avg": _PER_COLUMN, "exp_avg_sq": _PER_ROW},
    _Name.lamb: {"exp_avg": _PER_COLUMN, "exp_avg_sq": _PER_COLUMN},
    _Name.partial_rowwise_lamb: {"exp_avg": _PER_COLUMN, "exp_avg_sq": _PER_ROW},
    _Name.lars_sgd: {"momentum": _PER_COLUMN},
}
"""State tensors of each optimizer: [R] where row-wise, else [R, D]."""

COUNTS_STEPS = frozenset(
    {_Name.adam, _Name.partial_rowwise_adam, _Name.lamb, _Name.partial_rowwise_lamb}
)
"""Optimizers whose bias correction depends on the number of steps."""

LARS_TRUST = 0.001
"""LARS's trust coefficient, eta of You et al. 2017 (arXiv:1708.03888)."""


def update_rows(
    options: SparseOptimizer,
    *,
    weight: torch.Tensor,
    state: dict[str, torch.Tensor],
    rows: torch.Tensor,
    gradient: torch.Tensor,
    lr: float,
    step: int,
    rounding: Rounding = NEAREST,
) -> None:
    """Take one step on ``rows`` of ``weight`` and ``state``, in place.

    Args:
        options: Which optimizer, and its constants; ``options.lr`` is not read.
        weight: [R, D], in 32 or 16 bits; the step itself is taken in float32.
        state: The tensors of ``STATE_IS_ROWWISE``.
        rows: [U] int64, no row twice.
        gradient: [U, D], used up.
        lr: This step's learning rate.
        step: t, from 1.
        rounding: How 16-bit weights are written back.
    """
    if options.weight_decay:
        gradient.add_(read_rows(weight, rows), alpha=options.weight_decay)
    match options.name:
        case _Name.sgd:
            change = gradient.mul_(-lr)
        case _Name.adagrad | _Name.rowwise_adagrad:
            change = _adagrad(options, state["sum"], rows, gradient).mul_(-lr)
        case _Name.adam | _Name.partial_rowwise_adam:
            change = _adam(options, state, rows, gradient, step).mul_(-lr)
        case _Name.lamb | _Name.partial_rowwise_lamb:
            direction = _adam(options, state, rows, gradient, step)
            change = direction.mul_(_trust(weight, rows, direction, 1.0)).mul_(-lr)
        case _Name.lars_sgd:
            change = _lars(options, weight, state["momentum"], rows, gradient, lr)
    if weight.dtype == torch.float32:
        weight.index_add_(0, rows, change)
    else:
        write_rows(weight, rows, change.add_(read_rows(weight, rows)), rounding)


def _adagrad(
    options: SparseOptimizer,
    total: torch.Tensor,
    rows: torch.Tensor,
    gradient: torch.Tensor,
) -> torch.Tensor:
    """S += g^2, its mean over columns where row-wise; return g / (sqrt(S) + eps)."""
    touched = total.index_select(0, rows)
    if total.dim() == 1:
        touched.add_(gradient.square().mean(1))
    else:
        touched.addcmul_(gradient, gradient)
    total.index_copy_(0, rows, touched)
    root = touched.sqrt_()
    return _divide(gradient, root if root.dim() == 2 else root[:, None], options.eps)


def _adam(
    options: SparseOptimizer,
    state: dict[str, torch.Tensor],
    rows: torch.Tensor,
    gradient: torch.Tensor,
    step: int,
) -> torch.Tensor:
    """Return m' / (sqrt(v') + eps), bias-corrected (Kingma and Ba 2015).

    m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g^2, the mean of g^2 over
    columns where row-wise; m' = m / (1 - beta1^t), v' = v / (1 - beta2^t).
    """
    beta1, beta2 = options.beta1, options.beta2
    first = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1.0 - beta1)
    state["exp_avg"].index_copy_(0, rows, first)
    second = state["exp_avg_sq"].index_select(0, rows).mul_(beta2)
    if second.dim() == 1:
        second.add_(gradient.square().mean(1), alpha=1.0 - beta2)
    else:
        second.addcmul_(gradient, gradient, value=1.0 - beta2)
    state["exp_avg_sq"].index_copy_(0, rows, second)
    root = second.div_(1.0 - beta2**step).sqrt_()
    first.div_(1.0 - beta1**step)
    return _divide(first, root if root.dim() == 2 else root[:, None], options.eps)


def _lars(
    options: SparseOptimizer,
    weight: torch.Tensor,
    momentum: torch.Tensor,
    rows: torch.Tensor,
    gradient: torch.Tensor,
    lr: float,
) -> torch.Tensor:
    """M = momentum M + lr eta |w| / |g| g, norms over a row; return -M."""
    gradient.mul_(_trust(weight, rows, gradient, LARS_TRUST))
    velocity = momentum.index_select(0, rows).mul_(options.momentum)
    velocity.add_(gradient, alpha=lr)
    momentum.index_copy_(0, rows, velocity)
    return velocity.neg_()


def _trust(
    weight: torch.Tensor,
    rows: torch.Tensor,
    direction: torch.Tensor,
    coefficient: float,
) -> torch.Tensor:
    """Return coefficient |w| / |direction| a row, [U, 1]; 1 where a norm is 0.

    A row of zeros could otherwise never leave zero.
    """
    size = torch.linalg.vector_norm(read_rows(weight, rows), dim=1, keepdim=True)
    length = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    ratio = coefficient * size / length
    return torch.where((size > 0) & (length > 0), ratio, 1.0)


def _divide(numerator: torch.Tensor, root: torch.Tensor, eps: float) -> torch.Tensor:
    """Return numerator / (root + eps) in place; 0 where that denominator is 0."""
    if eps == 0.0:
        return torch.where(root > 0, numerator / root, 0.0)
    return numerator.div_(root.add_(eps))
