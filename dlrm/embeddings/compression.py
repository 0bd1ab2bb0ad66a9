"""Ids of a compressed table: each is made of several rows, which it shares with others.

Shape suffixes: N = ids, K = rows an id.
"""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import NamedTuple

import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm.config.errors import BadIdError
from dlrm.config.table_options import Combine, Compression, CompressionMethod

_LOW_32_BITS = 0xFFFFFFFF
_PROBE_STEP = 0x9E3779B9


class IdRows(NamedTuple):
    """Which rows an id of one table is made of, and how.

    quotient_remainder: row id // divisor, and row ceil(num_ids / divisor) +
    id % divisor. multi_probe: for probe p = 0, 1, ... row
    mix(mix(id) + 0x9E3779B9 p mod 2^32) mod num_rows, where mix is MurmurHash3's 32-bit
    finalizer; two probes may meet in one row.
    """

    num_ids: int
    method: CompressionMethod
    combine: Combine
    num_rows: int
    divisor: int
    rows_per_id: int

    def rows(self, ids_N: torch.Tensor) -> torch.Tensor:
        """Return the rows of each id, [N, K], in the ids' type."""
        if self.method is CompressionMethod.quotient_remainder:
            remainders_start = -(-self.num_ids // self.divisor)
            quotients = ids_N.div(self.divisor, rounding_mode="floor")
            remainders = remainders_start + ids_N % self.divisor
            return torch.stack([quotients, remainders], dim=1)
        mixed = _mix(ids_N.long())
        rows = [
            _mix((mixed + probe * _PROBE_STEP) & _LOW_32_BITS) % self.num_rows
            for probe in range(self.rows_per_id)
        ]
        return torch.stack(rows, dim=1).to(ids_N.dtype)


def id_rows(compression: Compression, *, num_ids: int) -> IdRows | None:
    """Return how ``num_ids`` ids are made of rows; None where each has its own."""
    if compression.method is CompressionMethod.none:
        return None
    return IdRows(
        num_ids=num_ids,
        method=compression.method,
        combine=compression.combine,
        num_rows=compression.table_rows(num_ids),
        divisor=compression.divisor_for(num_ids),
        rows_per_id=compression.rows_per_id,
    )


def expand_ids(bags: KeyedJaggedTensor, tables: dict[str, IdRows]) -> KeyedJaggedTensor:
    """Return the bags with each id of a named feature replaced by its rows, in order.

    Every row gets its id's weight.

    Raises:
        BadIdError: An id is not in [0, num_ids): its rows would be another id's.
    """
    ids, lengths, weights = [], [], []
    for name in bags.keys():  # noqa: SIM118 - not a mapping
        bag = bags[name]
        table = tables.get(name)
        if table is None:
            ids.append(bag.values())
            lengths.append(bag.lengths())
            weights.append(bag.weights_or_none())
            continue
        _refuse_bad_ids(name, bag.values(), bag.lengths(), table.num_ids)
        ids.append(table.rows(bag.values()).flatten())
        lengths.append(bag.lengths() * table.rows_per_id)
        own = bag.weights_or_none()
        weights.append(own if own is None else own.repeat_interleave(table.rows_per_id))
    return KeyedJaggedTensor(
        keys=bags.keys(),
        values=torch.cat(ids),
        weights=None if bags.weights_or_none() is None else torch.cat(weights),
        lengths=torch.cat(lengths),
        stride=bags.stride(),
    )


def combine_rows(rows: torch.Tensor, table: IdRows) -> torch.Tensor:
    """Return one vector an id, [N, D], from its rows, [N * K, D]."""
    rows_NKD = rows.unflatten(0, (-1, table.rows_per_id))
    if table.combine is Combine.sum:
        return rows_NKD.sum(1)
    return reduce(mul, rows_NKD.unbind(1))


def _mix(words: torch.Tensor) -> torch.Tensor:
    """Return the 32-bit finalizer of MurmurHash3 of int64 words in [0, 2^32)."""
    # A product's low 32 bits are right even where its high ones overflow int64.
    words = words ^ (words >> 16)
    words = (words * 0x85EBCA6B) & _LOW_32_BITS
    words = words ^ (words >> 13)
    words = (words * 0xC2B2AE35) & _LOW_32_BITS
    return words ^ (words >> 16)


def _refuse_bad_ids(
    feature: str, ids: torch.Tensor, lengths: torch.Tensor, num_ids: int
) -> None:
    bad = ((ids < 0) | (ids >= num_ids)).nonzero()
    if bad.numel():
        place = int(bad[0])
        row = int((lengths.cumsum(0) <= place).sum())
        raise BadIdError(
            f"Feature '{feature}' of a compressed table must have ids from 0 to "
            f"{num_ids - 1}, but got {int(ids[place])} in row {row} of a batch. Encode "
            f"the ids with the transforms that the model was trained with; dlrm "
            f"prepare and dlrm predict do.",
            feature=feature,
            row=row,
        )
