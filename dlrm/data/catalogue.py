"""The catalogue of a run: the documents that a query is answered from.

Shape suffixes: M = documents, R = rows, F2 = multi-hot features.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dlrm.config.errors import DatasetError
from dlrm.config.progress import Progress
from dlrm.config.schema import FeatureSchema
from dlrm.config.strangers import parse_json
from dlrm.data.batch import Batch
from dlrm.data.document_keys import DocumentKeys, dense_columns
from dlrm.data.loading.collate import Collator
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.rows import EncodedRows, concatenate_rows, starts_of

CATALOGUE_FILE = "documents.safetensors"
NOT_FOUND = -1
_ROWS_AT_A_TIME = 65_536
_FEATURES = "document_features"
_ROW_ARRAYS = tuple(field.name for field in dataclasses.fields(EncodedRows))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The distinct documents of a dataset, in order of their keys."""

    features: tuple[str, ...]
    """Names of the document's features, as the run's model has them."""
    keys: np.ndarray
    """int64 [M], rising."""
    counts: np.ndarray
    """int64 [M]: training rows with weight that hold the document."""
    rows: EncodedRows
    """A row a document; what is no document's is 0 or empty."""

    def __len__(self) -> int:
        """Count the documents."""
        return len(self.keys)

    def places(self, keys: np.ndarray) -> np.ndarray:
        """Return each key's document, int64; ``NOT_FOUND`` where there is none."""
        places = np.searchsorted(self.keys, keys)
        places[places == len(self.keys)] = 0
        found = self.keys[places] == keys if len(self.keys) else np.zeros(0, dtype=bool)
        return np.where(found, places, NOT_FOUND)

    def batches(self, schema: FeatureSchema, size: int) -> Iterator[Batch]:
        """Yield the documents as batches, row ids their places."""
        collator = Collator(schema)
        bounds = [*range(0, len(self), size), len(self)]
        for start, piece in zip(bounds, self.rows.pieces(bounds), strict=False):
            yield collator.collate(piece, np.arange(start, start + len(piece)))

    def save(self, folder: Path) -> None:
        """Write ``documents.safetensors`` into a run's folder."""
        arrays = {name: getattr(self.rows, name) for name in _ROW_ARRAYS}
        arrays |= {"keys": self.keys, "counts": self.counts}
        save_file(
            {n: np.ascontiguousarray(a) for n, a in arrays.items() if a is not None},
            folder / CATALOGUE_FILE,
            metadata={_FEATURES: json.dumps(self.features)},
        )

    @classmethod
    def load(cls, folder: Path) -> Catalogue:
        """Read what ``save`` wrote.

        Raises:
            DatasetError: It is missing or damaged.
        """
        path = folder / CATALOGUE_FILE
        try:
            with safe_open(path, framework="numpy") as file:
                features = tuple(parse_json(file.metadata()[_FEATURES]))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            keys, counts = arrays.pop("keys"), arrays.pop("counts")
            return cls(features, keys, counts, EncodedRows(**arrays))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{path} must hold the run's documents, but it cannot be read "
                f"({type(error).__name__}: {error}). Bring it back, or train anew."
            ) from error


def build_catalogue(dataset: Dataset, features: Collection[str]) -> Catalogue:
    """Collect the distinct documents of all splits of a dataset.

    Each is a row in memory; the splits are read block by block.
    """
    schema = dataset.schema
    keys_of, collator = DocumentKeys.of(schema, features), Collator(schema)
    keys, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    parts: list[EncodedRows] = []
    part_keys: list[np.ndarray] = []
    total = sum(schema.num_rows(split) for split in dataset.splits)
    with Progress(total, "documents", "rows") as progress:
        for split, rows in _blocks(dataset):
            batch = collator.collate(rows, np.arange(len(rows)))
            found, first, uses = _distinct(
                keys_of(batch).numpy(), rows.weights > 0, counted=split == "train"
            )
            is_new = ~np.isin(found, keys)
            parts.append(_documents(rows, first[is_new], schema, features))
            part_keys.append(found[is_new])
            keys, counts = _merged(keys, counts, found, uses)
            progress.update(len(rows))
    order = np.argsort(np.concatenate(part_keys), kind="stable")
    documents = _picked(concatenate_rows(parts), order)
    return Catalogue(tuple(features), keys, counts, documents)


def _blocks(dataset: Dataset) -> Iterator[tuple[str, EncodedRows]]:
    for split in dataset.splits:
        rows = dataset.split(split)
        for start in range(0, rows.num_rows, _ROWS_AT_A_TIME):
            stop = min(start + _ROWS_AT_A_TIME, rows.num_rows)
            yield split, rows.slice(start, stop)


def _distinct(
    keys_R: np.ndarray, weighty_R: np.ndarray, *, counted: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distinct keys, the first row of each, and the rows with weight of each."""
    keys, first, inverse = np.unique(keys_R, return_index=True, return_inverse=True)
    uses = np.bincount(inverse, weights=weighty_R * counted, minlength=len(keys))
    return keys, first, uses.astype(np.int64)


def _merged(
    keys: np.ndarray, counts: np.ndarray, found: np.ndarray, uses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    merged = np.union1d(keys, found)
    total = np.zeros(len(merged), dtype=np.int64)
    total[np.searchsorted(merged, keys)] += counts
    total[np.searchsorted(merged, found)] += uses
    return merged, total


def _documents(
    rows: EncodedRows,
    chosen: np.ndarray,
    schema: FeatureSchema,
    features: Collection[str],
) -> EncodedRows:
    """Return some rows of which nothing is left but their documents."""
    picked = _picked(rows, chosen)
    dense, one_hot = np.zeros_like(picked.dense), np.zeros_like(picked.one_hot)
    columns = list(dense_columns(schema, features))
    dense[:, columns] = picked.dense[:, columns]
    columns = [i for i, f in enumerate(schema.one_hot) if f.name in features]
    one_hot[:, columns] = picked.one_hot[:, columns]
    is_kept = np.zeros(picked.bag_lengths.shape, dtype=bool)
    is_kept[:, [i for i, f in enumerate(schema.multi_hot) if f.name in features]] = True
    kept_values = np.repeat(is_kept.reshape(-1), picked.bag_lengths.reshape(-1))
    weights = picked.bag_weights
    return EncodedRows(
        labels=np.zeros_like(picked.labels),
        weights=np.ones_like(picked.weights),
        dense=dense,
        one_hot=one_hot,
        bag_lengths=picked.bag_lengths * is_kept,
        bag_values=picked.bag_values[kept_values],
        bag_weights=None if weights is None else weights[kept_values],
    )


def _picked(rows: EncodedRows, chosen: np.ndarray) -> EncodedRows:
    """Return rows in any order, each a copy."""
    starts = rows.value_starts()
    lengths = np.diff(starts)[chosen]
    first = np.repeat(starts[chosen] - starts_of(lengths)[:-1], lengths)
    values = first + np.arange(len(first))
    weights = rows.bag_weights
    return EncodedRows(
        labels=rows.labels[chosen],
        weights=rows.weights[chosen],
        dense=rows.dense[chosen],
        one_hot=rows.one_hot[chosen],
        bag_lengths=rows.bag_lengths[chosen],
        bag_values=rows.bag_values[values],
        bag_weights=None if weights is None else weights[values],
    )
