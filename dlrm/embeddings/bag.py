"""``torch.nn.EmbeddingBag`` with every option and pooling in every combination.

Shape suffixes: B = bags, D = width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dlrm.config.checks import require
from dlrm.config.features import Pooling
from dlrm.embeddings.bag_checks import check_range
from dlrm.embeddings.bag_inputs import BagInput, read_bags
from dlrm.embeddings.bag_lists import Lists
from dlrm.embeddings.lookup import (
    LookupOptions,
    build_weight,
    describe,
    fill_normal,
    look_up,
)
from dlrm.embeddings.pooling import pool_rows, scale_sums


class EmbeddingBag(nn.Module):
    """One table as an ordinary parameter, and bags of its rows pooled to vectors.

    Arguments, values and gradients are those of ``torch.nn.EmbeddingBag``; what torch
    refuses works too: any mode with weights, with ``sparse`` and with
    ``scale_grad_by_freq``. ``mode`` is a ``Pooling``: sum, mean, max, sqrtn, or
    attention, whose ``query`` is a parameter. In evaluation mode ``max_norm`` rescales
    the values but not the stored rows.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str | Pooling = "mean",
        sparse: bool = False,
        _weight: torch.Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Draw the rows from the standard normal distribution, or take ``_weight``.

        Raises:
            ConfigError: An option is out of range, or ``_weight`` has another shape.
        """
        super().__init__()
        modes = [pooling.value for pooling in Pooling]
        known = isinstance(mode, Pooling) or mode in modes
        require(known, "mode", f"one of {', '.join(modes)}", mode)
        self.pooling = Pooling(mode)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.include_last_offset = include_last_offset
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
        self.query: nn.Parameter | None = None
        if self.pooling is Pooling.attention:
            self.query = nn.Parameter(self.weight.new_zeros(embedding_dim))
        if _weight is None:
            fill_normal(self.weight, self.options.padding_idx)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: torch.Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str | Pooling = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """Return a module over ``embeddings`` [num_embeddings, D], frozen or not.

        Raises:
            ConfigError: As the constructor; ``embeddings`` is not a matrix.
        """
        require(embeddings.ndim == 2, "embeddings", "a matrix", tuple(embeddings.shape))
        module = cls(
            embeddings.shape[0],
            embeddings.shape[1],
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            mode=mode,
            sparse=sparse,
            _weight=embeddings,
            include_last_offset=include_last_offset,
            padding_idx=padding_idx,
        )
        module.weight.requires_grad_(not freeze)
        return module

    def forward(
        self,
        input: BagInput,
        offsets: torch.Tensor | Sequence[int] | None = None,
        per_sample_weights: torch.Tensor | Lists | None = None,
        *,
        lengths: torch.Tensor | Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Return the bags' vectors, [B, D]; an empty bag's is zeros.

        Args:
            input: Bags in any of the forms of ``read_bags``.
            offsets: For ids in a row: where each bag starts.
            per_sample_weights: Factors of the rows, in the form of ``input``.
            lengths: For ids in a row, in place of ``offsets``; for padded rows the
                number of places that count.

        Raises:
            DataError: The input has no such form, its parts do not fit, or an id is
                not in the table.
        """
        bags = read_bags(
            input,
            offsets,
            per_sample_weights,
            lengths=lengths,
            include_last_offset=self.include_last_offset,
            device=self.weight.device,
        )
        check_range(bags.ids, num_embeddings=self.num_embeddings, offsets=bags.offsets)
        if self.options.padding_idx is not None:
            bags = bags.without(self.options.padding_idx)
        weights = bags.weights
        if weights is not None:
            weights = weights.to(self.weight.dtype)
        found = look_up(self.weight, bags.ids, self.options, training=self.training)
        if self.pooling.is_linear:
            return scale_sums(
                found.bag_sums(bags.offsets, weights),
                offsets=bags.offsets,
                weights_N=weights,
                pooling=self.pooling,
            )
        return pool_rows(
            found.rows(),
            offsets=bags.offsets,
            weights_N=weights,
            pooling=self.pooling,
            query_D=self.query,
        )

    def extra_repr(self) -> str:
        """Return sizes and options for ``repr``."""
        sizes = describe(self.num_embeddings, self.embedding_dim, self.options)
        return f"{sizes}, mode={self.pooling.value}"
