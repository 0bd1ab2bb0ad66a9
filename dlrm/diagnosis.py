"""What to tell a user whose loss is not finite."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from dlrm.checkpoints.dense import dense_tensors
from dlrm.checkpoints.rotation import list_checkpoints
from dlrm.config.optimizer import OptimizerConfig
from dlrm.data.batch import Batch
from dlrm.embeddings.finite import describe_bad_rows, is_finite
from dlrm.embeddings.state import table_parts


def describe_bad_loss(
    value: float,
    *,
    step: int,
    model: nn.Module,
    batch: Batch,
    logits: torch.Tensor,
    checkpoints: Path,
    optimizer: OptimizerConfig,
) -> str:
    """Return a message with the step, the suspects and the last good checkpoint.

    The loss is looked at before backward, so nothing of this step has reached the
    weights.
    """
    suspects = ", ".join(_non_finite(model, batch, logits)) or "the loss alone"
    good = list_checkpoints(checkpoints)
    return (
        f"The loss must be finite, but it is {value} at step {step:,}. "
        f"Not finite: {suspects}. "
        f"Last good checkpoint: {good[-1] if good else 'none'}. "
        f"Lower optimizer.sparse.lr ({optimizer.sparse.lr:g}) or optimizer.dense.lr "
        f"({optimizer.dense.lr:g}), or set optimizer.dense.clip_norm."
    )


def _non_finite(model: nn.Module, batch: Batch, logits: torch.Tensor) -> list[str]:
    found = {"dense features": batch.dense, "logits": logits, "weights": batch.weights}
    dense, _ = dense_tensors(model, None)
    found |= {name.replace("model/", "parameter "): p for name, p in dense.items()}
    names = [name for name, tensor in found.items() if not is_finite(tensor)]
    for part in table_parts(model):
        first = part.part.first_row
        names += describe_bad_rows(part.table, part.columns, first_row=first)
    return names
