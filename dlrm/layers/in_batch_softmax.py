"""Softmax of each query over the documents of its batch.

Shape suffixes: B = rows, Q = queries, C = queries of one chunk, D = width.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

CHUNK = 1024
"""Queries whose scores are held at a time."""


def in_batch_softmax(
    queries_BD: torch.Tensor,
    documents_BD: torch.Tensor,
    keys_B: torch.Tensor,
    *,
    is_query_B: torch.Tensor,
    is_candidate_B: torch.Tensor,
    log_q_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the loss of each query, [Q], in the order of its rows.

    With s_ij = <q_i, d_j> - log_q_j, row i's loss is
    -s_ii + log(exp(s_ii) + sum over j in N_i of exp(s_ij)). N_i are the candidate rows
    but for those whose key is row i's: the same document is no wrong answer. Other
    documents count once for each row that holds them.

    No more than ``CHUNK`` x B scores are held at a time; of several chunks they are
    computed a second time for the gradient.

    Args:
        queries_BD: A vector a row.
        documents_BD: A vector a row.
        keys_B: Equal numbers for equal documents.
        is_query_B: Rows that have a loss; all of them must be candidates.
        is_candidate_B: Rows whose documents others are compared with.
        log_q_B: Taken off every score: the log of how often a row holds the document.
    """

    def chunk_losses(rows_C: torch.Tensor) -> torch.Tensor:
        scores_CB = queries_BD[rows_C] @ documents_BD.T
        if log_q_B is not None:
            scores_CB = scores_CB - log_q_B
        left_out_CB = (keys_B[rows_C, None] == keys_B) | ~is_candidate_B
        own_C = torch.arange(len(rows_C), device=rows_C.device)
        left_out_CB[own_C, rows_C] = False
        scores_CB = scores_CB.masked_fill(left_out_CB, -torch.inf)
        return scores_CB.logsumexp(dim=1) - scores_CB[own_C, rows_C]

    chunks = torch.nonzero(is_query_B).squeeze(1).split(CHUNK)
    if len(chunks) == 1:
        return chunk_losses(chunks[0])
    losses = [checkpoint(chunk_losses, rows, use_reentrant=False) for rows in chunks]
    return torch.cat(losses)
