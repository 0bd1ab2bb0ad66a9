"""Bags in the forms that users hold them in, brought to one: ids, offsets, weights.

Shape suffixes: B = bags, N = ids of all bags, L = places of a padded bag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, overload

import numpy as np
import pandas as pd
import torch
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor

from dlrm.config.errors import DataError
from dlrm.embeddings.bag_checks import check_ids, check_offsets, check_weights
from dlrm.embeddings.bag_lists import Lists, flatten_lists
from dlrm.embeddings.padding import kept_offsets

BagInput: TypeAlias = (
    torch.Tensor | np.ndarray | Lists | KeyedJaggedTensor | JaggedTensor
)


@dataclass(frozen=True, slots=True)
class Bags:
    """Bag b holds ids and weights from ``offsets[b]`` to ``offsets[b + 1]``."""

    ids: torch.Tensor
    """[N] int32 or int64."""
    offsets: torch.Tensor
    """[B + 1], in the ids' type."""
    weights: torch.Tensor | None = None
    """[N]."""

    def without(self, padding_idx: int) -> Bags:
        """Return the bags without their padding ids."""
        keep = self.ids != padding_idx
        return Bags(
            ids=self.ids[keep],
            offsets=kept_offsets(keep, self.offsets),
            weights=None if self.weights is None else self.weights[keep],
        )


def read_bags(
    bags: BagInput,
    offsets: torch.Tensor | Sequence[int] | None = None,
    weights: torch.Tensor | Lists | None = None,
    *,
    lengths: torch.Tensor | Sequence[int] | None = None,
    include_last_offset: bool = False,
    device: torch.device,
) -> Bags:
    """Return the bags on ``device``; gradients still reach ``weights``.

    Args:
        bags: Ids of all bags in a row [N] with ``offsets`` or ``lengths``; padded rows
            [B, L], whose first ``lengths`` count where given; lists of lists; a pandas
            column of lists, a missing one being empty; torchrec's tensor of one key.
        offsets: [B], or [B + 1] with ``include_last_offset``, for ids in a row.
        weights: One an id, in the form that the ids have.
        lengths: [B].
        include_last_offset: Whether ``offsets`` end with N.
        device: Of the table.

    Raises:
        DataError: The input has none of these forms, or its parts do not fit.
    """
    if isinstance(bags, (KeyedJaggedTensor, JaggedTensor)):
        _refuse("a tensor of torchrec's", offsets=offsets, weights=weights)
        _refuse("a tensor of torchrec's", lengths=lengths)
        found = _from_jagged(bags)
    elif isinstance(bags, (torch.Tensor, np.ndarray)) and bags.ndim == 2:
        _refuse("padded rows", offsets=offsets)
        found = _from_padded(_tensor(bags), _tensor(weights), _tensor(lengths))
    elif _is_in_a_row(bags) and (offsets is not None or lengths is not None):
        ids = _tensor(bags)
        starts = _starts(ids.numel(), offsets, lengths, include_last_offset)
        found = Bags(ids, starts, _tensor(weights))
    elif isinstance(bags, (list, tuple, pd.Series)):
        _refuse("lists", offsets=offsets, lengths=lengths)
        found = _from_lists(bags, weights)
    else:
        raise DataError(_unknown_form(bags))
    check_ids(found.ids)
    check_weights(found.weights, num_ids=found.ids.numel())
    ids = found.ids.to(device)
    return Bags(
        ids=ids,
        offsets=found.offsets.to(device, ids.dtype),
        weights=None if found.weights is None else found.weights.to(device),
    )


def _from_jagged(bags: KeyedJaggedTensor | JaggedTensor) -> Bags:
    if isinstance(bags, KeyedJaggedTensor) and len(bags.keys()) != 1:
        raise DataError(
            f"A KeyedJaggedTensor must have one key, but this one has {bags.keys()}. "
            f"Pick one with bags[key], or use FeatureEmbeddings for several features."
        )
    return Bags(bags.values(), bags.offsets(), bags.weights_or_none())


def _from_padded(
    ids_BL: torch.Tensor, weights_BL: torch.Tensor | None, lengths: torch.Tensor | None
) -> Bags:
    num_bags, width = ids_BL.shape
    if weights_BL is not None and weights_BL.shape != ids_BL.shape:
        raise DataError(
            f"Weights must have the ids' shape {tuple(ids_BL.shape)}, but theirs is "
            f"{tuple(weights_BL.shape)}."
        )
    if lengths is None:
        offsets = torch.arange(num_bags + 1, device=ids_BL.device) * width
        flat = None if weights_BL is None else weights_BL.flatten()
        return Bags(ids_BL.flatten(), offsets, flat)
    lengths = lengths.to(ids_BL.device)
    fits = lengths.shape == (num_bags,) and bool(
        ((lengths >= 0) & (lengths <= width)).all()
    )
    if not fits:
        raise DataError(
            f"lengths of padded rows must be {num_bags} numbers from 0 to {width}, but "
            f"they are {lengths.tolist()}."
        )
    keep = torch.arange(width, device=ids_BL.device) < lengths[:, None]
    return Bags(
        ids_BL[keep],
        _offsets_of(lengths),
        None if weights_BL is None else weights_BL[keep],
    )


def _starts(
    num_ids: int,
    offsets: torch.Tensor | Sequence[int] | None,
    lengths: torch.Tensor | Sequence[int] | None,
    include_last_offset: bool,
) -> torch.Tensor:
    """Return [B + 1] offsets of ids in a row."""
    if lengths is not None:
        _refuse("ids with lengths", offsets=offsets)
        starts = _offsets_of(_tensor(lengths))
        check_offsets(starts, num_ids=num_ids, ends_at_last=True)
        return starts
    starts = _tensor(offsets)
    check_offsets(starts, num_ids=num_ids, ends_at_last=include_last_offset)
    if include_last_offset:
        return starts
    return torch.cat([starts, starts.new_tensor([num_ids])])


def _from_lists(bags: Lists, weights: torch.Tensor | Lists | None) -> Bags:
    ids = flatten_lists(bags, "ids")
    offsets = _offsets_of(torch.tensor(ids.lengths, dtype=torch.int64))
    if weights is None:
        return Bags(ids.flat, offsets)
    if isinstance(weights, (torch.Tensor, np.ndarray)) and weights.ndim == 1:
        return Bags(ids.flat, offsets, _tensor(weights))
    own = flatten_lists(weights, "weights")
    if own.lengths != ids.lengths:
        pairs = enumerate(zip(ids.lengths, own.lengths, strict=False))
        row = next((b for b, (n, m) in pairs if n != m), None)
        where = "their number differs" if row is None else f"row {row} has others"
        raise DataError(
            f"Weights must come in lists as long as those of the ids, but {where}."
        )
    return Bags(ids.flat, offsets, own.flat)


def _is_in_a_row(bags: object) -> bool:
    if isinstance(bags, (torch.Tensor, np.ndarray)):
        return bags.ndim == 1
    return isinstance(bags, (list, tuple)) and not any(
        isinstance(member, (list, tuple, np.ndarray, torch.Tensor)) for member in bags
    )


@overload
def _tensor(values: None) -> None: ...
@overload
def _tensor(values: object) -> torch.Tensor: ...
def _tensor(values: object) -> torch.Tensor | None:
    if values is None or isinstance(values, torch.Tensor):
        return values
    if isinstance(values, (list, tuple)) and not values:
        return torch.empty(0, dtype=torch.int64)
    return torch.as_tensor(values)


def _offsets_of(lengths: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))


def _refuse(form: str, **unread: object) -> None:
    for name, value in unread.items():
        if value is not None:
            raise DataError(
                f"{name} must be left out where the bags are {form}, which tell it "
                f"themselves. Leave it out, or give the ids in a row."
            )


def _unknown_form(bags: object) -> str:
    shape = f" of shape {tuple(bags.shape)}" if hasattr(bags, "shape") else ""
    return (
        f"Bags must be ids in a row with offsets or lengths, padded rows [B, L], lists "
        f"of lists, a pandas column of lists or a KeyedJaggedTensor of one key, but "
        f"they are a {type(bags).__name__}{shape}."
    )
