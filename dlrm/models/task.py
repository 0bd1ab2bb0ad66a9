"""Tasks own the loss.

Shape suffixes: B = batch, T = classes, L = labels of all rows together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torchrec.sparse.jagged_tensor import JaggedTensor

from dlrm.config.schema import FeatureSchema
from dlrm.config.task import ClassLoss, TaskConfig, TaskName
from dlrm.data.batch import Batch
from dlrm.data.catalogue import Catalogue
from dlrm.data.document_keys import DocumentKeys
from dlrm.layers.in_batch_softmax import in_batch_softmax


class Task(Protocol):
    """What a model's logits are trained for."""

    def loss_sum(
        self, logits: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sum(w * l) and sum(w) over the rows of ``logits``, float32 scalars.

        The trainer divides by the sum of weights over all ranks, so that a step sees
        the mean over the global batch whatever the slices' sizes.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClickTask:
    """Binary clicks: log loss under the logistic link."""

    positive_weight: float = 1.0
    """Class weight: factor on the sample weight of a click."""

    def loss_sum(
        self, logits: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sum(w * l) and sum(w) over the rows of ``logits`` [B, 1]."""
        labels_B, weights_B = batch.labels, batch.weights
        if self.positive_weight != 1.0:
            weights_B = weights_B * (1 + (self.positive_weight - 1) * labels_B)
        losses = binary_cross_entropy_with_logits(
            logits.squeeze(1), labels_B, weight=weights_B, reduction="sum"
        )
        return losses, weights_B.sum()


@dataclass(frozen=True, slots=True)
class ClassTask:
    """One or several classes a row, under ``class_losses``; rows without one weigh 0.

    ``draw_label`` takes, anew in each step, one of a row's classes at random for all of
    them, as fastText does: the same loss in expectation, with noise.
    """

    loss: ClassLoss = ClassLoss.softmax
    draw_label: bool = False

    def loss_sum(
        self, logits: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sum(w * l) and sum(w) over the rows of ``logits`` [B, T]."""
        assert batch.classes is not None
        classes = one_of_each(batch.classes) if self.draw_label else batch.classes
        losses_B, defined_B = class_losses(logits, classes, self.loss)
        weights_B = torch.where(defined_B, batch.weights, 0.0)
        return (weights_B * losses_B).sum(), weights_B.sum()


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """Which document a click belongs to, by softmax over the documents of its batch.

    Yi et al. 2019, section 3.2. Rows with weight are compared with; those of them with
    label 1 have a loss. On several ranks a batch is a rank's slice.
    """

    keys: DocumentKeys
    known_keys: torch.Tensor
    """int64, rising: the documents of the catalogue."""
    log_shares: torch.Tensor | None
    """float32: the log of each one's share of the training rows; None where scores are
    compared as they are."""

    @classmethod
    def of(
        cls, config: TaskConfig, schema: FeatureSchema, folder: Path
    ) -> RetrievalTask:
        """Read the documents and their frequencies from a run's folder.

        Raises:
            DatasetError: The run's catalogue is missing or damaged.
        """
        catalogue = Catalogue.load(folder)
        counts = torch.from_numpy(catalogue.counts).double().clamp(min=1)
        return cls(
            DocumentKeys.of(schema, catalogue.features),
            torch.from_numpy(catalogue.keys),
            (counts / counts.sum()).log().float()
            if config.frequency_correction
            else None,
        )

    def loss_sum(
        self, logits: torch.Tensor, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sum(w * l) and sum(w) over the clicks; ``logits`` are [B, 2, D]."""
        keys_B = self.keys(batch)
        is_candidate_B = batch.weights > 0
        is_query_B = is_candidate_B & (batch.labels > 0)
        losses = in_batch_softmax(
            logits[:, 0].float(),
            logits[:, 1].float(),
            keys_B,
            is_query_B=is_query_B,
            is_candidate_B=is_candidate_B,
            log_q_B=self._log_shares_of(keys_B),
        )
        weights = batch.weights[is_query_B]
        return (weights * losses).sum(), weights.sum()

    def _log_shares_of(self, keys_B: torch.Tensor) -> torch.Tensor | None:
        if self.log_shares is None:
            return None
        # Where the documents live, which may be more than the device should hold.
        places = torch.searchsorted(self.known_keys, keys_B.cpu())
        places = places.clamp(max=len(self.known_keys) - 1)  # Padding rows' keys.
        return self.log_shares[places].to(keys_B.device)


def class_losses(
    logits_BT: torch.Tensor, classes: JaggedTensor, loss: ClassLoss
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each row's loss [B], and which rows have one, bool [B].

    Softmax: the mean over the row's classes of -log p, where p sums to 1 over all T; no
    loss without a class. One against all: the sum over all T of the log loss of
    "has it", each under its own logistic link; no class at all is a no to each. Class
    ids below 0, which no logit stands for, are left out.
    """
    ids_L = classes.values().long()
    rows_L = torch.repeat_interleave(
        torch.arange(len(logits_BT), device=ids_L.device),
        classes.lengths(),
        output_size=ids_L.numel(),
    )
    known_L = ids_L >= 0
    counts_B = logits_BT.new_zeros(len(logits_BT)).index_add(
        0, rows_L, known_L.to(logits_BT.dtype)
    )
    scores_BT = logits_BT
    if loss is ClassLoss.softmax:
        scores_BT = torch.log_softmax(logits_BT, dim=1)
    picked_L = scores_BT[rows_L, ids_L.clamp(min=0)].where(known_L, 0.0)
    picked_B = torch.zeros_like(counts_B).index_add(0, rows_L, picked_L)
    if loss is ClassLoss.softmax:
        return -picked_B / counts_B.clamp(min=1), counts_B > 0
    return softplus(logits_BT).sum(dim=1) - picked_B, torch.ones_like(counts_B) > 0


def one_of_each(classes: JaggedTensor) -> JaggedTensor:
    """Return one class of each row that has any, drawn evenly by torch's generator."""
    lengths_B, starts_B = classes.lengths(), classes.offsets()[:-1]
    drawn_B = torch.rand(len(lengths_B), device=lengths_B.device) * lengths_B
    filled_B = lengths_B > 0
    places = starts_B + torch.minimum(drawn_B.long(), (lengths_B - 1).long())
    return JaggedTensor(
        values=classes.values()[places[filled_B].long()],
        lengths=filled_B.to(lengths_B.dtype),
    )


def build_task(
    config: TaskConfig, schema: FeatureSchema, folder: Path, *, positive_weight: float
) -> Task:
    """Return what a run's model is trained for; ``folder`` is the run's.

    Raises:
        DatasetError: The run's catalogue of documents is missing or damaged.
    """
    match config.resolved(schema.label_kind):
        case TaskName.click:
            return ClickTask(positive_weight=positive_weight)
        case TaskName.multiclass | TaskName.multilabel:
            return ClassTask(config.loss, draw_label=config.draw_label)
        case TaskName.retrieval:
            return RetrievalTask.of(config, schema, folder)
