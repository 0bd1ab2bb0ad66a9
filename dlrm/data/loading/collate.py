"""Turn encoded rows into a batch, bags feature by feature as torchrec reads them.

Shape suffixes: B = batch, R = real rows of it, F = features of a group, V = ids in all
bags of a group together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

import numpy as np
import torch
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedJaggedTensor

from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.data.batch import Batch
from dlrm.data.storage.layout import RecordLayout
from dlrm.data.storage.rows import EncodedRows, rechunk_rows


def collate(
    rows: EncodedRows,
    row_ids: np.ndarray,
    schema: FeatureSchema,
    *,
    batch_size: int | None = None,
) -> Batch:
    """Copy ``rows`` and their int64 ``row_ids`` into a batch that shares no memory.

    ``batch_size`` above the number of rows appends padding rows: all bags empty, those
    of one-hot features too, weight 0 and row id -1.
    """
    return Collator(schema).collate(rows, row_ids, batch_size=batch_size)


def encoded_batches(
    chunks: Iterable[EncodedRows], schema: FeatureSchema, batch_size: int
) -> Iterator[Batch]:
    """Yield the rows of all chunks in batches, row ids counted from 0."""
    collator = Collator(schema)
    next_id = 0
    for rows in rechunk_rows(chunks, batch_size):
        yield collator.collate(rows, np.arange(next_id, next_id + len(rows)))
        next_id += len(rows)


class Collator:
    """``collate`` for many batches of one schema, which is looked through only once."""

    def __init__(self, schema: FeatureSchema) -> None:
        """Find each group's place in the encoded rows."""
        self._groups = {
            name: _Group.of(features, schema)
            for name, features in schema.groups.items()
        }
        self._class_bag = len(schema.multi_hot) if schema.num_label_bags else None
        self._layout = RecordLayout.of(schema)

    def padding(self, num_rows: int) -> Batch:
        """Return a batch of padding rows alone."""
        nothing = np.zeros(0, dtype=np.int64)
        return self.collate(self._layout.no_rows(), nothing, batch_size=num_rows)

    def collate(
        self, rows: EncodedRows, row_ids: np.ndarray, *, batch_size: int | None = None
    ) -> Batch:
        """Return the batch; see the function ``collate``."""
        size = len(rows) if batch_size is None else batch_size
        assert size >= len(rows) == row_ids.size
        return Batch(
            dense=_padded(rows.dense, size),
            sparse={
                name: group.keyed_bags(rows, size)
                for name, group in self._groups.items()
            },
            labels=_padded(rows.labels, size),
            weights=_padded(rows.weights, size),
            row_ids=_padded(row_ids.astype(np.int64, copy=False), size, fill=-1),
            classes=self._classes(rows, size),
        )

    def _classes(self, rows: EncodedRows, size: int) -> JaggedTensor | None:
        if self._class_bag is None:
            return None
        bags = _multi_hot_bags(rows, [self._class_bag], weighted=False)
        lengths = _padded_columns(bags.lengths, size)[0]
        return JaggedTensor(
            values=torch.from_numpy(bags.values), lengths=torch.from_numpy(lengths)
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring features of a group that are all one-hot or all multi-hot."""

    multi_hot: bool
    columns: list[int]
    """Places in ``one_hot`` or ``bag_lengths``."""


@dataclass(frozen=True, slots=True)
class _Bags:
    """Bags feature by feature."""

    values: np.ndarray
    """int32 [V]"""
    lengths: np.ndarray
    """int32 [F, R]"""
    weights: np.ndarray | None
    """float32 [V]"""


@dataclass(frozen=True, slots=True)
class _Group:
    keys: list[str]
    weighted: bool
    runs: tuple[_Run, ...]

    @classmethod
    def of(cls, features: tuple[FittedSparse, ...], schema: FeatureSchema) -> _Group:
        place = {f.name: i for i, f in enumerate(schema.one_hot)}
        place |= {f.name: i for i, f in enumerate(schema.multi_hot)}
        runs = groupby(features, key=lambda f: f.feature.multi_hot)
        return cls(
            keys=[f.name for f in features],
            weighted=features[0].weighted,
            runs=tuple(_Run(kind, [place[f.name] for f in run]) for kind, run in runs),
        )

    def keyed_bags(self, rows: EncodedRows, size: int) -> KeyedJaggedTensor:
        """Return the group's bags of ``size`` rows, the last ones empty padding."""
        bags = _join([self._run_bags(rows, run) for run in self.runs])
        lengths = _padded_columns(bags.lengths, size).reshape(-1)
        offsets = _offsets(
            lengths,
            all_ones=bags.values.size == lengths.size
            and not any(run.multi_hot for run in self.runs),
        )
        # Given here, the sums per key are never waited for on the device.
        ends = offsets[::size].tolist() if size else [0] * (len(self.keys) + 1)
        weights = None if bags.weights is None else torch.from_numpy(bags.weights)
        return KeyedJaggedTensor(
            keys=self.keys,
            values=torch.from_numpy(bags.values),
            weights=weights,
            lengths=torch.from_numpy(lengths),
            offsets=torch.from_numpy(offsets),
            stride=size,
            length_per_key=[end - start for start, end in pairwise(ends)],
            offset_per_key=ends,
        )

    def _run_bags(self, rows: EncodedRows, run: _Run) -> _Bags:
        if run.multi_hot:
            return _multi_hot_bags(rows, run.columns, weighted=self.weighted)
        ids = np.array(rows.one_hot.T[_selection(run.columns)], order="C")
        return _Bags(ids.reshape(-1), np.ones(ids.shape, dtype=np.int32), None)


def _multi_hot_bags(rows: EncodedRows, columns: list[int], *, weighted: bool) -> _Bags:
    bag_lengths = np.array(rows.bag_lengths, order="C")
    weights = rows.bag_weights if weighted else None
    _, values, weights_out = torch.ops.fbgemm.permute_1D_sparse_data(
        _feature_major(*bag_lengths.shape, tuple(columns)),
        torch.from_numpy(bag_lengths).view(-1),
        torch.from_numpy(_writable(rows.bag_values)),
        None if weights is None else torch.from_numpy(_writable(weights)),
    )
    lengths = np.array(bag_lengths.T[_selection(columns)], order="C")
    return _Bags(
        values.numpy(), lengths, None if weights is None else weights_out.numpy()
    )


def _selection(columns: list[int]) -> slice | list[int]:
    """Return neighbouring columns as a slice, which copies nothing."""
    first, stop = columns[0], columns[-1] + 1
    return slice(first, stop) if columns == list(range(first, stop)) else columns


@lru_cache(maxsize=16)
def _feature_major(
    num_rows: int, num_features: int, columns: tuple[int, ...]
) -> torch.Tensor:
    """Return int32 [F * R]: row-major places of the bags of ``columns`` by feature."""
    places = np.arange(num_rows * num_features, dtype=np.int32)
    by_feature = places.reshape(num_rows, num_features).T[list(columns)]
    return torch.from_numpy(by_feature.reshape(-1))


def _join(parts: list[_Bags]) -> _Bags:
    if len(parts) == 1:
        return parts[0]
    # Weighted features are all multi-hot: one run, so joined parts have no weights.
    return _Bags(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        None,
    )


def _offsets(lengths: np.ndarray, *, all_ones: bool) -> np.ndarray:
    """Return int32 [n + 1]: 0 and the running sums of n lengths."""
    if all_ones:  # A running sum costs as much as gathering the rows.
        return np.arange(lengths.size + 1, dtype=np.int32)
    offsets = np.zeros(lengths.size + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _padded_columns(lengths: np.ndarray, size: int) -> np.ndarray:
    padding = size - lengths.shape[1]
    return np.pad(lengths, ((0, 0), (0, padding))) if padding else lengths


def _padded(array: np.ndarray, size: int, *, fill: float = 0) -> torch.Tensor:
    """Return a copy of ``array`` with rows of ``fill`` up to ``size``."""
    padded = np.empty((size, *array.shape[1:]), dtype=array.dtype)
    padded[: len(array)] = array
    padded[len(array) :] = fill
    return torch.from_numpy(padded)


def _writable(array: np.ndarray) -> np.ndarray:
    # torch warns of tensors over read-only maps, though this one is only read.
    return array if array.flags.writeable else array.copy()
