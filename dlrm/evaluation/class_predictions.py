"""The best classes of every row of a split, never all of its logits.

Shape suffixes: B = batch, R = rows, T = classes, K = classes listed a row, L = true
classes of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dlrm.config.task import ClassLoss
from dlrm.data.batch import Batch
from dlrm.data.storage.rows import starts_of
from dlrm.data.storage.split_rows import gather_ragged
from dlrm.evaluation.predictions import evaluation_mode
from dlrm.models.task import class_losses


@dataclass(frozen=True, slots=True)
class ClassPredictions:
    """One entry a row, row ids rising."""

    row_ids: np.ndarray
    """int64 [R]"""
    top_classes: np.ndarray
    """int32 [R, K], best first; equally likely classes by class id."""
    top_probabilities: np.ndarray
    """float32 [R, K]"""
    losses: np.ndarray
    """float64 [R]; NaN where no class of the row has a logit."""
    num_labels: np.ndarray
    """int32 [R]"""
    labels: np.ndarray
    """int32 [L]: each row's own class ids, row after row; -1 where training saw none
    such."""
    weights: np.ndarray
    """float32 [R]"""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row_ids)

    def hits(self) -> np.ndarray:
        """Say which listed classes a row really has: bool [R, K]."""
        num_listed = self.top_classes.shape[1]
        found = np.zeros((len(self), num_listed), dtype=bool)
        rows = np.repeat(np.arange(len(self)), self.num_labels)
        for k in range(num_listed):
            is_hit = self.top_classes[rows, k] == self.labels
            found[rows[is_hit], k] = True
        return found


def collect_classes(
    model: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    loss: ClassLoss,
    num_listed: int,
) -> ClassPredictions:
    """Run the model over all batches, without dropout and without gradients.

    Padding rows are dropped and the rest put into the order of row ids.
    """
    parts = []
    # Not inference_mode: fbgemm's CPU lookup exists as an autograd kernel alone.
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            placed = batch.to(device)
            parts.append(_predict(model(placed), placed, loss, num_listed))
    return concatenate_classes(parts)


def _predict(
    logits_BT: torch.Tensor, batch: Batch, loss: ClassLoss, num_listed: int
) -> ClassPredictions:
    assert batch.classes is not None
    logits_BT = logits_BT.double()
    losses_B, defined_B = class_losses(logits_BT, batch.classes, loss)
    top_BK = top_classes(logits_BT, min(num_listed, logits_BT.shape[1]))
    if loss is ClassLoss.softmax:
        log_p_BK = logits_BT.gather(1, top_BK) - logits_BT.logsumexp(1, keepdim=True)
        probabilities_BK = log_p_BK.exp()
    else:
        probabilities_BK = logits_BT.gather(1, top_BK).sigmoid()
    return ClassPredictions(
        row_ids=batch.row_ids.cpu().numpy(),
        top_classes=top_BK.int().cpu().numpy(),
        top_probabilities=probabilities_BK.float().cpu().numpy(),
        losses=torch.where(defined_B, losses_B, torch.nan).cpu().numpy(),
        num_labels=batch.classes.lengths().int().cpu().numpy(),
        labels=batch.classes.values().int().cpu().numpy(),
        weights=batch.weights.cpu().numpy(),
    )


def top_classes(logits_BT: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k largest logits' columns, int64 [B, k], ties by lower column.

    ``topk`` alone leaves open which of equal logits it takes, so that a model which
    says nothing would be judged by chance.
    """
    values_Bk, columns_Bk = logits_BT.topk(k, dim=1)
    cut_by_tie = (logits_BT >= values_Bk[:, -1:]).sum(dim=1) > k
    if bool(cut_by_tie.any()):
        ordered = logits_BT[cut_by_tie].sort(dim=1, descending=True, stable=True)
        columns_Bk[cut_by_tie] = ordered.indices[:, :k]
    columns_Bk = columns_Bk.sort(dim=1).values
    found_Bk = logits_BT.gather(1, columns_Bk)
    best_first = found_Bk.sort(dim=1, descending=True, stable=True).indices
    return columns_Bk.gather(1, best_first)


def concatenate_classes(parts: Sequence[ClassPredictions]) -> ClassPredictions:
    """Return all parts' rows by rising row id, without padding rows (row id -1)."""
    if not parts:
        raise ValueError("parts must be at least one, but there is none.")
    row_ids = np.concatenate([part.row_ids for part in parts])
    order = np.argsort(row_ids, kind="stable")
    order = order[np.count_nonzero(row_ids < 0) :]
    lengths = np.concatenate([part.num_labels for part in parts])
    starts = starts_of(lengths)[:-1]
    labels = np.concatenate([part.labels for part in parts])
    found = ClassPredictions(
        row_ids=row_ids[order],
        top_classes=np.concatenate([part.top_classes for part in parts])[order],
        top_probabilities=np.concatenate([p.top_probabilities for p in parts])[order],
        losses=np.concatenate([part.losses for part in parts])[order],
        num_labels=lengths[order],
        labels=gather_ragged(labels, starts[order], lengths[order]),
        weights=np.concatenate([part.weights for part in parts])[order],
    )
    assert (np.diff(found.row_ids) > 0).all(), "a row was predicted twice"
    return found
