"""Where each row's own document stands among all, and which stand first.

The catalogue's vectors are held; scores are held for a batch of rows and a block of
documents at a time.

Shape suffixes: B = batch, R = rows, M = documents, C = documents of a block, K =
documents listed, D = width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import nn

from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch
from dlrm.data.catalogue import NOT_FOUND, Catalogue
from dlrm.data.document_keys import DocumentKeys
from dlrm.evaluation.class_predictions import top_classes
from dlrm.evaluation.predictions import evaluation_mode

_BATCH_SIZE = 8192
_MAX_SCORES = 1 << 22


@dataclass(frozen=True, slots=True)
class RetrievalPredictions:
    """One entry a row, row ids rising."""

    row_ids: np.ndarray
    """int64 [R]"""
    documents: np.ndarray
    """int64 [R]: each row's own document, its place in the catalogue; -1 for none."""
    num_better: np.ndarray
    """int64 [R]: other documents with a higher score; -1 where it has none."""
    num_tied: np.ndarray
    """int64 [R]: documents with the same score, its own included."""
    top_documents: np.ndarray
    """int32 [R, K], best first; equal scores in the catalogue's order."""
    top_scores: np.ndarray
    """float32 [R, K]"""
    labels: np.ndarray
    """float32 [R]"""
    weights: np.ndarray
    """float32 [R]"""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row_ids)


def collect_retrieval(
    model: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    catalogue: Catalogue,
    schema: FeatureSchema,
    num_listed: int,
) -> RetrievalPredictions:
    """Score every document for every row, without dropout and without gradients.

    Scores are sums in float64 rounded to float32, so that equal vectors have equal
    scores wherever in a block they stand.
    """
    keys_of, parts = DocumentKeys.of(schema, catalogue.features), []
    # Not inference_mode: fbgemm's CPU lookup exists as an autograd kernel alone.
    with evaluation_mode(model), torch.no_grad():
        documents_MD = torch.cat(
            [
                model(batch.to(device))[:, 1]
                for batch in catalogue.batches(schema, _BATCH_SIZE)
            ]
        )
        for batch in batches:
            placed = batch.to(device)
            places = catalogue.places(keys_of(batch).numpy())
            ranked = rank_documents(
                model(placed)[:, 0],
                documents_MD,
                torch.from_numpy(places).to(device),
                num_listed=num_listed,
            )
            parts.append(_predictions(batch, places, ranked))
    return concatenate_retrieval(parts)


@dataclass(frozen=True, slots=True)
class Ranked:
    """What the scores of a batch come to."""

    num_better: torch.Tensor
    """int64 [B], as ``num_tied``."""
    num_tied: torch.Tensor
    top: torch.Tensor
    """int64 [B, K], as wide as ``top_scores``, float32."""
    top_scores: torch.Tensor


def rank_documents(
    queries_BD: torch.Tensor,
    documents_MD: torch.Tensor,
    own_B: torch.Tensor,
    *,
    num_listed: int,
    max_scores: int = _MAX_SCORES,
) -> Ranked:
    """Compare all documents with each query's own, block by block.

    ``own_B`` are places in ``documents_MD``, negative for none. No more than
    ``max_scores`` scores are held at a time, but for those of one document.
    """
    queries_BD = queries_BD.double()
    own_scores_B = documents_MD[own_B.clamp(min=0)].double()
    own_scores_B = (queries_BD * own_scores_B).sum(dim=1).float()
    num_better_B, num_tied_B = torch.zeros_like(own_B), torch.zeros_like(own_B)
    top_scores_BK = queries_BD.new_zeros(len(own_B), 0, dtype=torch.float32)
    top_BK = own_B.new_zeros(len(own_B), 0)
    size = max(1, max_scores // max(1, len(own_B)))
    for start in range(0, len(documents_MD), size):
        block_CD = documents_MD[start : start + size].double()
        scores_BC = (queries_BD @ block_CD.T).float()
        inside_B = (own_B >= start) & (own_B < start + len(block_CD))
        # The same sum in another order may round to another number.
        scores_BC[inside_B, own_B[inside_B] - start] = own_scores_B[inside_B]
        num_better_B += (scores_BC > own_scores_B[:, None]).sum(dim=1)
        num_tied_B += (scores_BC == own_scores_B[:, None]).sum(dim=1)
        # What is listed so far stands first, so that ties go to lower places.
        found = torch.cat([top_scores_BK, scores_BC], dim=1)
        places_C = torch.arange(start, start + len(block_CD), device=own_B.device)
        places = torch.cat([top_BK, places_C.expand(len(own_B), -1)], dim=1)
        chosen_BK = top_classes(found, min(num_listed, found.shape[1]))
        top_scores_BK, top_BK = found.gather(1, chosen_BK), places.gather(1, chosen_BK)
    num_better_B = torch.where(own_B < 0, -1, num_better_B)
    return Ranked(num_better_B, num_tied_B, top_BK, top_scores_BK)


def _predictions(
    batch: Batch, places: np.ndarray, ranked: Ranked
) -> RetrievalPredictions:
    return RetrievalPredictions(
        row_ids=batch.row_ids.numpy(),
        documents=places,
        num_better=ranked.num_better.cpu().numpy(),
        num_tied=np.where(places == NOT_FOUND, 0, ranked.num_tied.cpu().numpy()),
        top_documents=ranked.top.int().cpu().numpy(),
        top_scores=ranked.top_scores.cpu().numpy(),
        labels=batch.labels.numpy(),
        weights=batch.weights.numpy(),
    )


def concatenate_retrieval(
    parts: Sequence[RetrievalPredictions],
) -> RetrievalPredictions:
    """Return all parts' rows by rising row id, without padding rows (row id -1)."""
    if not parts:
        raise ValueError("parts must be at least one, but there is none.")
    row_ids = np.concatenate([part.row_ids for part in parts])
    order = np.argsort(row_ids, kind="stable")
    order = order[np.count_nonzero(row_ids < 0) :]
    found = RetrievalPredictions(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])[order]
            for field in fields(RetrievalPredictions)
        )
    )
    assert (np.diff(found.row_ids) > 0).all(), "a row was predicted twice"
    return found
