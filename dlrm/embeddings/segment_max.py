"""The maximum over each bag's rows.

Shape suffixes: N = rows of all bags, B = bags, D = width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812


def segment_max(rows_ND: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return each bag's maxima, column by column, [B, D]; zeros for an empty bag.

    Bag b holds the rows from ``offsets[b]`` to ``offsets[b + 1]``. Of equal rows the
    first one gets the whole gradient, whether they are one id twice or two ids.
    """
    # With the rows as the table, and each row its own id, this is torch's definition
    # itself, gradient included. torch.segment_reduce has another one: it splits the
    # gradient among ties, wrongly below zero, and gives -inf for an empty bag.
    ids = torch.arange(rows_ND.shape[0], dtype=offsets.dtype, device=rows_ND.device)
    return F.embedding_bag(ids, rows_ND, offsets, mode="max", include_last_offset=True)
