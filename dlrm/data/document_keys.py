"""Tell documents apart: one number for all that a row's document features hold.

Shape suffixes: B = batch, V = ids of a feature.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torchrec.sparse.jagged_tensor import JaggedTensor

from dlrm.config.schema import FeatureSchema
from dlrm.data.batch import Batch


@dataclass(frozen=True, slots=True)
class DocumentKeys:
    """Which parts of a batch are the document's.

    A key is a 64-bit hash of the encoded features: equal documents have equal keys,
    different ones with a probability of all but 2^-64 a pair different keys. A bag is a
    multiset: the order of its ids says nothing, as in every pooling.
    """

    groups: tuple[tuple[str, str], ...]
    """Group and name of each sparse feature, in schema order."""
    dense_columns: tuple[int, ...]
    """Columns of the dense matrix."""

    @classmethod
    def of(cls, schema: FeatureSchema, features: Collection[str]) -> DocumentKeys:
        """Find the named features, sparse or dense, in a schema's batches."""
        group_of = {f.name: g for g, members in schema.groups.items() for f in members}
        groups = [(group_of[f.name], f.name) for f in schema.sparse]
        return cls(
            tuple(pair for pair in groups if pair[1] in features),
            dense_columns(schema, features),
        )

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return the key of each row's document, int64 [B]."""
        keys_B = batch.row_ids.new_zeros(len(batch))
        for group, name in self.groups:
            keys_B = _mix(keys_B + _hash_bags(batch.sparse[group][name]))
        for column in self.dense_columns:
            # Adding 0 makes one number of 0 and -0.
            values_B = batch.dense[:, column].contiguous() + 0.0
            keys_B = _mix(keys_B + values_B.view(torch.int32).long())
        return keys_B


def dense_columns(schema: FeatureSchema, features: Collection[str]) -> tuple[int, ...]:
    """Return the columns of the dense matrix that are those of ``features``."""
    names = [f.name for f in schema.dense for _ in range(f.num_columns)]
    return tuple(column for column, name in enumerate(names) if name in features)


def _hash_bags(bags: JaggedTensor) -> torch.Tensor:
    lengths_B, weights_V = bags.lengths(), bags.weights_or_none()
    hashes_V = _mix(bags.values().long())
    if weights_V is not None:
        bits_V = (weights_V.contiguous() + 0.0).view(torch.int32)
        hashes_V = _mix(hashes_V + bits_V.long())
    rows_V = torch.repeat_interleave(
        torch.arange(len(lengths_B), device=lengths_B.device),
        lengths_B,
        output_size=hashes_V.numel(),
    )
    return hashes_V.new_zeros(len(lengths_B)).index_add(0, rows_V, hashes_V)


def _mix(values: torch.Tensor) -> torch.Tensor:
    """Return splitmix64 of 64-bit words, which int64 arithmetic wraps around as."""
    values = values + _signed(0x9E3779B97F4A7C15)
    values = (values ^ _shifted(values, 30)) * _signed(0xBF58476D1CE4E5B9)
    values = (values ^ _shifted(values, 27)) * _signed(0x94D049BB133111EB)
    return values ^ _shifted(values, 31)


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    # Without the mask the sign would be shifted in.
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
