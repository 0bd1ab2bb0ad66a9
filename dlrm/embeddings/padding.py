"""Padding ids are taken out of their bags before any lookup sees them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor


def remove_padding(
    bags: KeyedJaggedTensor, padding: dict[str, int]
) -> KeyedJaggedTensor:
    """Return the bags without each named feature's padding id, order kept."""
    ids, offsets, ends = bags.values(), bags.offsets(), bags.offset_per_key()
    keep = torch.ones_like(ids, dtype=torch.bool)
    for k, name in enumerate(bags.keys()):
        if name in padding:
            mine = slice(ends[k], ends[k + 1])
            keep[mine] = ids[mine] != padding[name]
    weights = bags.weights_or_none()
    return KeyedJaggedTensor(
        keys=bags.keys(),
        values=ids[keep],
        weights=None if weights is None else weights[keep],
        lengths=kept_offsets(keep, offsets).diff(),
        stride=bags.stride(),
    )


def kept_offsets(keep: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return where the bags start once the ids that are not kept are gone."""
    kept_before = F.pad(keep.cumsum(0, dtype=offsets.dtype), (1, 0))
    return kept_before[offsets]
