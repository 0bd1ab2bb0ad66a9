"""A limit on the norm of rows.

Shape suffixes: N = rows, perhaps with repeats; D = width.
"""

from __future__ import annotations

import torch


def rescale(values: torch.Tensor, *, max_norm: float, norm_type: float) -> torch.Tensor:
    """Return rows [N, D] with those beyond ``max_norm`` scaled down to it.

    The factor is max_norm / (norm + 1e-7), as of ``torch.embedding_renorm_``.
    """
    norms = torch.linalg.vector_norm(values, ord=norm_type, dim=1, keepdim=True)
    factors = torch.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)
    return values * factors
