"""Bags over the rows of one matrix, and the same bags seen from the rows.

Shape suffixes: B = batch, F = features, N = ids, U = rows of an update, each once,
D = width.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812

from dlrm.embeddings.id_check import refuse_bad_ids


@dataclass(frozen=True, slots=True)
class FlatBags:
    """Bags of matrix rows, example by example, so that [B * F, D] is [B, F * D]."""

    ids: torch.Tensor
    """[N] rows of the matrix."""
    offsets: torch.Tensor
    """[B * F + 1], where each bag starts, and N; of the ids' type."""
    weights: torch.Tensor | None
    """[N] factors of the ids."""
    bag_of_id: torch.Tensor | None
    """[N] int64; None where every bag holds one id, so that id i is in bag i."""

    @property
    def num_bags(self) -> int:
        """How many bags there are, B * F of a whole batch."""
        return self.offsets.numel() - 1

    def bags_of_ids(self) -> torch.Tensor:
        """Return the bag of each id, [N] int64, also where each id has its own."""
        if self.bag_of_id is not None:
            return self.bag_of_id
        return torch.arange(self.ids.numel(), device=self.ids.device)


def flatten(
    ids: torch.Tensor,
    offsets: torch.Tensor,
    weights: torch.Tensor | None,
    *,
    first_row: torch.Tensor,
    num_rows: torch.Tensor,
) -> FlatBags:
    """Turn bags over many tables, feature by feature, into bags over one matrix.

    Args:
        ids: [N] rows of their own tables, feature by feature, then example by example.
        offsets: [F * B + 1].
        weights: [N].
        first_row: [F], where each feature's table starts in the matrix.
        num_rows: [F], the size of each feature's table.

    Raises:
        IndexError: An id is out of its table's range.
    """
    num_features, num_bags = first_row.numel(), offsets.numel() - 1
    ids = ids.to(first_row.dtype)
    lengths = offsets.diff()
    if ids.numel() == num_bags and bool((lengths == 1).all()):
        return _flatten_one_hot(ids, weights, first_row, num_rows)
    lengths = lengths.view(num_features, -1).t().reshape(-1)
    starts = F.pad(lengths.cumsum(0), (1, 0)).to(ids.dtype)
    bag_of_id = torch.arange(num_bags, device=ids.device).repeat_interleave(
        lengths, output_size=ids.numel()
    )
    shifts = offsets[:-1].view(num_features, -1).t().reshape(-1) - starts[:-1]
    sources = torch.arange(ids.numel(), dtype=shifts.dtype, device=ids.device)
    sources += shifts.index_select(0, bag_of_id)
    ids = ids.index_select(0, sources)
    batch_size = num_bags // num_features
    refuse_bad_ids(ids, num_rows.repeat(batch_size).index_select(0, bag_of_id))
    return FlatBags(
        ids=ids + first_row.repeat(batch_size).index_select(0, bag_of_id),
        offsets=starts,
        weights=None if weights is None else weights.index_select(0, sources),
        bag_of_id=bag_of_id,
    )


def _flatten_one_hot(
    ids: torch.Tensor,
    weights: torch.Tensor | None,
    first_row: torch.Tensor,
    num_rows: torch.Tensor,
) -> FlatBags:
    per_feature = ids.view(first_row.numel(), -1)
    refuse_bad_ids(per_feature, num_rows[:, None])
    per_feature = per_feature + first_row[:, None]
    if weights is not None:
        weights = weights.view(first_row.numel(), -1).t().reshape(-1)
    return FlatBags(
        ids=per_feature.t().reshape(-1),
        offsets=torch.arange(ids.numel() + 1, dtype=ids.dtype, device=ids.device),
        weights=weights,
        bag_of_id=None,
    )


def flatten_rows(
    ids: torch.Tensor,
    offsets: torch.Tensor,
    *,
    first_row: torch.Tensor,
    num_rows: torch.Tensor,
) -> FlatBags:
    """Turn ids of many tables into rows of one matrix, each in a bag of its own.

    Their order stays: feature by feature, then example by example. Arguments and
    errors are those of ``flatten``.
    """
    num_features = first_row.numel()
    ids = ids.to(first_row.dtype)
    if num_features > 1:
        batch_size = (offsets.numel() - 1) // num_features
        edges = offsets[::batch_size] if batch_size else offsets.new_zeros(1)
        counts = edges.diff() if batch_size else edges.expand(num_features)
        feature_of_id = torch.arange(num_features, device=ids.device).repeat_interleave(
            counts, output_size=ids.numel()
        )
        first_row = first_row.index_select(0, feature_of_id)
        num_rows = num_rows.index_select(0, feature_of_id)
    refuse_bad_ids(ids, num_rows)
    return FlatBags(
        ids=ids + first_row,
        offsets=torch.arange(ids.numel() + 1, dtype=ids.dtype, device=ids.device),
        weights=None,
        bag_of_id=None,
    )


def concatenate(parts: list[FlatBags]) -> FlatBags:
    """Return the bags of all parts, one part after another, as one set of bags.

    Bags of several ranks become those of the global batch.
    """
    firsts = list(itertools.accumulate((p.num_bags for p in parts), initial=0))
    edges = list(itertools.accumulate((p.ids.numel() for p in parts), initial=0))
    bag_of_id = None
    if any(part.bag_of_id is not None for part in parts):
        bag_of_id = torch.cat(
            [p.bags_of_ids() + first for p, first in zip(parts, firsts, strict=False)]
        )
    weights = [part.weights for part in parts if part.weights is not None]
    offsets = [p.offsets[:-1] + edge for p, edge in zip(parts, edges, strict=False)]
    return FlatBags(
        ids=torch.cat([part.ids for part in parts]),
        offsets=torch.cat([*offsets, offsets[0].new_tensor(edges[-1:])]),
        weights=torch.cat(weights) if weights else None,
        bag_of_id=bag_of_id,
    )


@dataclass(frozen=True, slots=True)
class RowUses:
    """For each row of an update, the bags that use it: itself a set of bags."""

    rows: torch.Tensor
    """[U] int64, ascending."""
    offsets: torch.Tensor
    """[U + 1] int64, where each row's uses start, and N."""
    bags: torch.Tensor
    """[N] int64, the bag of each use; a row's uses stand in the order of the ids."""
    weights: torch.Tensor | None
    """[N] factors of the uses."""

    def counts(self, rows: slice = slice(None)) -> torch.Tensor:
        """Return how often each row is used: of all, [U], or of one chunk's rows."""
        last = None if rows.stop is None else rows.stop + 1
        return self.offsets[rows.start : last].diff()

    def used(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows with any use, and how often each is used."""
        counts = self.counts()
        return self.rows[counts > 0], counts[counts > 0]

    def chunks(self, num_rows: int) -> list[tuple[slice, slice]]:
        """Cut the rows into parts: slices of ``rows`` and of ``bags``."""
        edges = [*range(0, self.rows.numel(), num_rows), self.rows.numel()]
        starts = self.offsets[torch.tensor(edges, device=self.offsets.device)].tolist()
        return [
            (slice(edges[i], edges[i + 1]), slice(starts[i], starts[i + 1]))
            for i in range(len(edges) - 1)
        ]

    def gradient(self, per_bag: torch.Tensor, rows: slice, uses: slice) -> torch.Tensor:
        """Return the summed gradient of one chunk's rows, [rows, D].

        A pooled lookup in the bags' gradients: the same to the bit whatever the
        thread count, since one thread sums each row in order.
        """
        offsets = self.offsets[rows.start : rows.stop + 1]
        return F.embedding_bag(
            self.bags[uses],
            per_bag,
            offsets - uses.start,
            mode="sum",
            per_sample_weights=None if self.weights is None else self.weights[uses],
            include_last_offset=True,
        )


def find_row_uses(bags: FlatBags) -> RowUses:
    """Sort the uses of all rows by row, in a stable order."""
    sorted_ids, order = torch.sort(bags.ids, stable=True)
    rows, counts = torch.unique_consecutive(sorted_ids, return_counts=True)
    return _row_uses(bags, rows.long(), counts, order)


def find_all_row_uses(bags: FlatBags, num_rows: int) -> RowUses:
    """Sort the uses of rows 0 to ``num_rows`` - 1 by row, those without any too."""
    order = torch.argsort(bags.ids, stable=True)
    counts = torch.bincount(bags.ids, minlength=num_rows)
    return _row_uses(bags, torch.arange(num_rows, device=order.device), counts, order)


def _row_uses(
    bags: FlatBags, rows: torch.Tensor, counts: torch.Tensor, order: torch.Tensor
) -> RowUses:
    bag_of_id, weights = bags.bag_of_id, bags.weights
    return RowUses(
        rows=rows,
        offsets=F.pad(counts.cumsum(0), (1, 0)),
        bags=order if bag_of_id is None else bag_of_id.index_select(0, order),
        weights=None if weights is None else weights.detach().index_select(0, order),
    )
