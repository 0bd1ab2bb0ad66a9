"""``torch.nn.Embedding`` with every option in every combination.

Shape suffix: D = width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from dlrm.config.checks import require
from dlrm.embeddings.bag_checks import check_ids, check_range
from dlrm.embeddings.lookup import (
    LookupOptions,
    build_weight,
    describe,
    fill_normal,
    look_up,
)


class Embedding(nn.Module):
    """One table as an ordinary parameter, looked up row by row.

    Arguments, values and gradients are those of ``torch.nn.Embedding``; ``sparse`` goes
    with ``scale_grad_by_freq`` too. In evaluation mode ``max_norm`` rescales the values
    but not the stored rows.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: torch.Tensor | None = None,
        _freeze: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Draw the rows from the standard normal distribution, or take ``_weight``.

        Raises:
            ConfigError: An option is out of range, or ``_weight`` has another shape.
        """
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.options = LookupOptions.checked(
            num_embeddings,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
        )
        self.weight = build_weight(
            num_embeddings, embedding_dim, _weight, device=device, dtype=dtype
        )
        if _weight is None:
            fill_normal(self.weight, self.options.padding_idx)
        self.weight.requires_grad_(not _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: torch.Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """Return a module over ``embeddings`` [num_embeddings, D], frozen or not.

        Raises:
            ConfigError: As the constructor; ``embeddings`` is not a matrix.
        """
        require(embeddings.ndim == 2, "embeddings", "a matrix", tuple(embeddings.shape))
        return cls(
            embeddings.shape[0],
            embeddings.shape[1],
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
            _weight=embeddings,
            _freeze=freeze,
        )

    def forward(self, input: torch.Tensor | np.ndarray | Sequence[Any]) -> torch.Tensor:
        """Return the rows of ids of any shape [*], as [*, D].

        Raises:
            DataError: An id is no whole number, or not in the table.
        """
        ids = torch.as_tensor(input, device=self.weight.device)
        check_ids(ids)
        check_range(ids, num_embeddings=self.num_embeddings)
        found = look_up(self.weight, ids, self.options, training=self.training)
        # The small table of the rows in use has left the padding row's gradient out.
        whole = found.table is self.weight
        return found.rows(padding_idx=self.options.padding_idx if whole else None)

    def extra_repr(self) -> str:
        """Return sizes and options for ``repr``."""
        return describe(self.num_embeddings, self.embedding_dim, self.options)
