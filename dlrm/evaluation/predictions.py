"""What a model says about every row of a split. Shape suffix: R = rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dlrm.data.batch import Batch


@dataclass(frozen=True, slots=True)
class Predictions:
    """One entry a row, row ids rising: int64 [R], then float32 [R] each."""

    row_ids: np.ndarray
    logits: np.ndarray
    """What rows are judged by; float64 where they are no longer the model's own."""
    labels: np.ndarray
    weights: np.ndarray
    raw_logits: np.ndarray | None = None
    """The model's own logits, where ``logits`` were corrected."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row_ids)


def collect_predictions(
    model: nn.Module, batches: Iterable[Batch], device: torch.device
) -> Predictions:
    """Run the model over all batches, without dropout and without gradients.

    Padding rows are dropped and the rest put into the order of row ids. Afterwards
    every module is in the mode, training or evaluation, that it was in before.
    """
    parts = []
    # Not inference_mode: fbgemm's CPU lookup exists as an autograd kernel alone.
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            logits = model(batch.to(device)).float().reshape(-1)
            parts.append(
                Predictions(
                    batch.row_ids.cpu().numpy(),
                    logits.cpu().numpy(),
                    batch.labels.cpu().numpy(),
                    batch.weights.cpu().numpy(),
                )
            )
    return concatenate_predictions(parts)


def concatenate_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Return all parts' rows by rising row id, without padding rows (row id -1)."""
    empty = np.zeros(0, dtype=np.float32)
    parts = [Predictions(np.zeros(0, dtype=np.int64), empty, empty, empty), *parts]
    row_ids = np.concatenate([part.row_ids for part in parts])
    order = np.argsort(row_ids, kind="stable")
    order = order[np.count_nonzero(row_ids < 0) :]
    found = Predictions(
        row_ids[order],
        np.concatenate([part.logits for part in parts])[order],
        np.concatenate([part.labels for part in parts])[order],
        np.concatenate([part.weights for part in parts])[order],
        _raw_logits(parts, order),
    )
    assert (np.diff(found.row_ids) > 0).all(), "a row was predicted twice"
    return found


def _raw_logits(parts: Sequence[Predictions], order: np.ndarray) -> np.ndarray | None:
    """Return all parts' raw logits in order, None where no part has any."""
    if all(part.raw_logits is None for part in parts):
        return None
    raw = [p.logits if p.raw_logits is None else p.raw_logits for p in parts]
    return np.concatenate(raw)[order]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Turn off dropout and the like; afterwards every module is as it was before."""
    # Module by module: a part that is frozen in evaluation mode must stay so.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # By train(), which sharded collections hand on to tables that modules() does
        # not list; parents first, as it also sets all that is below.
        for module, training in modes:
            module.train(training)
