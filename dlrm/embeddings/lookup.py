"""Rows of one parameter under ``torch.nn.Embedding``'s options, in any combination.

Shape suffixes: R = rows, U = different ids, D = width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from dlrm.config.checks import require
from dlrm.config.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class LookupOptions:
    """See ``torch.nn.Embedding``."""

    padding_idx: int | None = None
    """Counted from 0."""
    max_norm: float | None = None
    norm_type: float = 2.0
    scale_grad_by_freq: bool = False
    sparse: bool = False

    @classmethod
    def checked(
        cls,
        num_embeddings: int,
        *,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
    ) -> LookupOptions:
        """Return the options, a negative ``padding_idx`` counted from the end.

        Raises:
            ConfigError: A value is out of range.
        """
        require(num_embeddings >= 1, "num_embeddings", ">= 1", num_embeddings)
        require(max_norm is None or max_norm > 0, "max_norm", "above 0", max_norm)
        require(norm_type > 0, "norm_type", "above 0", norm_type)
        if padding_idx is not None:
            rows = f"from {-num_embeddings} to {num_embeddings - 1}"
            inside = -num_embeddings <= padding_idx < num_embeddings
            require(inside, "padding_idx", rows, padding_idx)
            padding_idx %= num_embeddings
        return cls(
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
        )


@dataclass(frozen=True, slots=True)
class Lookup:
    """A table and ids into it; what is done to its rows reaches the parameter."""

    table: torch.Tensor
    ids: torch.Tensor
    sparse: bool
    """Whether the table takes a sparse gradient."""

    def rows(self, *, padding_idx: int | None = None) -> torch.Tensor:
        """Return one row an id; those of ``padding_idx`` give no gradient."""
        return F.embedding(
            self.ids, self.table, padding_idx=padding_idx, sparse=self.sparse
        )

    def bag_sums(
        self, offsets: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the weighted sums of the bags' rows."""
        return F.embedding_bag(
            self.ids,
            self.table,
            offsets,
            mode="sum",
            sparse=self.sparse,
            per_sample_weights=weights,
            include_last_offset=True,
        )


def look_up(
    weight_RD: torch.Tensor,
    ids: torch.Tensor,
    options: LookupOptions,
    *,
    training: bool,
) -> Lookup:
    """Return where ``ids``' rows lie, once ``max_norm`` and frequencies are seen to.

    In training the stored rows beyond ``max_norm`` are rescaled, as torch does; else,
    and in a frozen table, only the values are.
    """
    limited = options.max_norm is not None
    if limited and training and weight_RD.requires_grad:
        with torch.no_grad():
            _renorm(weight_RD.detach(), ids, options)
        limited = False
    if not limited and not options.scale_grad_by_freq:
        return Lookup(weight_RD, ids, options.sparse)
    # A small table of the rows in use: every option has one row an id to work on, and
    # one gradient an id to pass on.
    unique_ids, places, counts = ids.unique(return_inverse=True, return_counts=True)
    rows_UD = F.embedding(
        unique_ids, weight_RD, padding_idx=options.padding_idx, sparse=options.sparse
    )
    if limited:
        with torch.no_grad():
            places_U = torch.arange(len(unique_ids), device=ids.device)
            _renorm(rows_UD.detach(), places_U, options)
    if options.scale_grad_by_freq:
        rows_UD = _DividedGradient.apply(rows_UD, counts)  # type: ignore[no-untyped-call]
    return Lookup(rows_UD, places.to(ids.dtype), sparse=False)


def build_weight(
    num_embeddings: int,
    embedding_dim: int,
    given: torch.Tensor | None,
    *,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Parameter:
    """Return ``given``, or rows without values yet, as a parameter.

    Raises:
        ConfigError: ``given`` has another shape.
    """
    if given is None:
        empty = torch.empty(num_embeddings, embedding_dim, device=device, dtype=dtype)
        return nn.Parameter(empty)
    if given.shape != (num_embeddings, embedding_dim):
        raise ConfigError(
            f"_weight must have shape ({num_embeddings}, {embedding_dim}), but its "
            f"shape is {tuple(given.shape)}. Give num_embeddings and embedding_dim as "
            f"it has them."
        )
    return nn.Parameter(given)


def fill_normal(weight_RD: torch.Tensor, padding_idx: int | None) -> None:
    """Draw all rows from the standard normal distribution; the padding row is zero."""
    nn.init.normal_(weight_RD)
    if padding_idx is not None:
        with torch.no_grad():
            weight_RD[padding_idx].fill_(0)


def describe(num_embeddings: int, embedding_dim: int, options: LookupOptions) -> str:
    """Return the sizes and the options that are set, as ``repr`` shows them."""
    shown = [f"{num_embeddings}, {embedding_dim}"]
    default = LookupOptions()
    for name in LookupOptions.__slots__:
        value = getattr(options, name)
        if value != getattr(default, name):
            shown.append(f"{name}={value}")
    return ", ".join(shown)


def _renorm(rows: torch.Tensor, ids: torch.Tensor, options: LookupOptions) -> None:
    assert options.max_norm is not None
    flat = ids.flatten().contiguous()
    torch.embedding_renorm_(rows, flat, options.max_norm, options.norm_type)


class _DividedGradient(torch.autograd.Function):
    """Rows as they are; their gradient divided by the number of their uses."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(counts)
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (counts,) = ctx.saved_tensors
        return gradient / counts[:, None].to(gradient.dtype), None
