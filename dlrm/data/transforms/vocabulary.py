"""Vocabularies: counted over the training rows, one row of the table a known value.

Row 0 is shared by all other values. Known values follow from row 1, most frequent
first, equally frequent ones in the order of their UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dlrm.config.errors import DatasetError
from dlrm.config.features import Encoding
from dlrm.config.schema import FeatureSchema
from dlrm.data.transforms.hashing import hash_texts, leading_words, splitmix64

VOCABULARIES_FOLDER = "vocabularies"
LABEL_CLASSES = "label.classes"
"""The vocabulary of classes; a table's name holds no dot."""
SHARED_ROW_KEY = "\0the row of all other values"
"""Stands for row 0 where rows are told apart by their keys' hashes."""
_BUCKET_KEYS = np.uint64(1 << 63)
VOCABULARY_SCHEMA = pa.schema([("key", pa.large_string()), ("count", pa.int64())])


def vocabulary_order(keys: pa.Array, counts: np.ndarray) -> np.ndarray:
    """Return int64: the most frequent key first, equally frequent ones by their bytes.

    The first 8 bytes tell most keys apart; only those that they do not are compared as
    texts.
    """
    leads = leading_words(keys)
    order: np.ndarray = np.lexsort((leads, -counts))
    sorted_leads, sorted_counts = leads[order], counts[order]
    same = (sorted_leads[1:] == sorted_leads[:-1]) & (
        sorted_counts[1:] == sorted_counts[:-1]
    )
    if same.any():
        # Neighbours of one count and lead stand where they belong as a group: sorted
        # among themselves, all such groups come in the same order again.
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        some = order[tied]
        columns = [keys.take(pa.array(some)), pa.array(counts[some])]
        table = pa.table(columns, schema=VOCABULARY_SCHEMA)
        by = [("count", "descending"), ("key", "ascending")]
        order[tied] = some[pc.sort_indices(table, sort_keys=by).to_numpy()]
    return order


class Vocabulary:
    """The known values of one table."""

    def __init__(self, keys: pa.Array, counts: np.ndarray) -> None:
        """Give ``keys`` rows 1, 2, ...; ``counts`` are their training occurrences."""
        self.keys = keys.cast(pa.large_string())
        self.counts = counts
        self._hashes: np.ndarray | None = None
        self._row_order = np.zeros(0, dtype=np.int32)

    @property
    def num_embeddings(self) -> int:
        """Rows of the table, the shared row 0 included."""
        return len(self.keys) + 1

    def rows_of(self, texts: pa.Array) -> np.ndarray:
        """Return each text's row, int32; 0 where it is not known."""
        rows = np.zeros(len(texts), dtype=np.int32)
        if len(self.keys) == 0 or len(texts) == 0:
            return rows
        hashes = self._index()
        texts = texts.cast(pa.large_string())
        wanted = hash_texts(texts)
        # Neighbours in hash order lie together in memory: sorted queries stay in cache.
        pending = np.argsort(wanted)
        places = np.searchsorted(hashes, wanted[pending])
        while pending.size:
            inside = places < hashes.size
            pending, places = pending[inside], places[inside]
            same_hash = hashes[places] == wanted[pending]
            pending, places = pending[same_hash], places[same_hash]
            candidates = self._row_order[places]
            found = self.keys.take(pa.array(candidates))
            equal = pc.equal(found, texts.take(pa.array(pending)))
            is_equal = equal.to_numpy(zero_copy_only=False)
            rows[pending[is_equal]] = candidates[is_equal] + 1
            # Two keys of one hash are neighbours: look at the next one.
            pending, places = pending[~is_equal], places[~is_equal] + 1
        return rows

    def save(self, folder: Path, table: str) -> None:
        """Write ``vocabularies/<table>.parquet``: key and count, row 1 first."""
        path = vocabulary_path(folder, table)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.table([self.keys, pa.array(self.counts)], schema=VOCABULARY_SCHEMA), path
        )

    @classmethod
    def load(cls, folder: Path, table: str, num_embeddings: int) -> Vocabulary:
        """Read what ``save`` wrote.

        Raises:
            DatasetError: It is missing, damaged or not of ``num_embeddings`` rows.
        """
        path = vocabulary_path(folder, table)
        try:
            stored = pq.read_table(path, schema=VOCABULARY_SCHEMA).combine_chunks()
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(
                f"{folder} must hold the vocabulary {path.name}, but it cannot be read "
                f"({error}). Prepare the dataset again."
            ) from error
        if stored.num_rows + 1 != num_embeddings:
            raise DatasetError(
                f"{path} must hold {num_embeddings - 1:,} values, but it holds "
                f"{stored.num_rows:,}. Prepare the dataset again."
            )
        keys = pa.concat_arrays(
            [pa.array([], pa.large_string()), *stored["key"].chunks]
        )
        return cls(keys, stored["count"].to_numpy())

    def _index(self) -> np.ndarray:
        """Return the keys' hashes, sorted; ``_row_order`` says whose they are."""
        if self._hashes is None:
            hashes = hash_texts(self.keys)
            self._row_order = np.argsort(hashes).astype(np.int32)
            self._hashes = hashes[self._row_order]
        return self._hashes


class StoredCounts(Mapping[str, Vocabulary]):
    """The counts of a dataset's vocabularies by table, read one at a time.

    The vocabularies that are given have their counts alone, no keys.
    """

    def __init__(self, folder: Path, schema: FeatureSchema) -> None:
        """Look into ``folder``, where ``schema`` says what there must be."""
        self._folder = folder
        self._tables = [
            table
            for table, features in schema.tables.items()
            if features[0].feature.encoding is Encoding.vocabulary
        ]

    def __getitem__(self, table: str) -> Vocabulary:
        """Read the counts of one table."""
        if table not in self._tables:
            raise KeyError(table)
        stored = pq.read_table(vocabulary_path(self._folder, table), columns=["count"])
        counts = stored["count"].combine_chunks().to_numpy()
        return Vocabulary(pa.array([], pa.large_string()), counts)

    def __iter__(self) -> Iterator[str]:
        """Yield the tables."""
        return iter(self._tables)

    def __len__(self) -> int:
        """Count the tables."""
        return len(self._tables)


def vocabulary_path(folder: Path, table: str) -> Path:
    """Return a table's file; characters that paths give a meaning to are escaped."""
    return folder / VOCABULARIES_FOLDER / f"{quote(table, safe=' ')}.parquet"


def table_row_keys(folder: Path, schema: FeatureSchema, table: str) -> np.ndarray:
    """Return what each row of a table of ``schema`` stands for, uint64 [rows].

    A row of a compressed table stands for no value but for itself. A derived table
    stands for the values of the one it derives from.

    Raises:
        DatasetError: The vocabulary is damaged or of another size.
    """
    users = schema.tables[table]
    if schema.options(table).compression.rows_per_id > 1:
        return np.arange(schema.table_rows(table), dtype=np.uint64)
    known = row_key_hashes(folder, users[0].vocabulary, users[0].num_known)
    buckets = np.arange(users[0].num_buckets, dtype=np.uint64)
    # A bucket keeps its key, and so its initial values, when the vocabulary before it
    # grows.
    return np.concatenate([known, splitmix64(buckets ^ _BUCKET_KEYS)])


def row_key_hashes(folder: Path, table: str, num_embeddings: int) -> np.ndarray:
    """Return what each row of a table stands for as a number, uint64 [num_embeddings].

    It is the hash of the row's key, so that a value keeps it when the vocabulary grows;
    for tables without vocabulary the row's own number.

    Raises:
        DatasetError: The vocabulary is damaged, or not of ``num_embeddings`` rows.
    """
    if not vocabulary_path(folder, table).exists():
        return np.arange(num_embeddings, dtype=np.uint64)
    vocabulary = Vocabulary.load(folder, table, num_embeddings)
    shared = hash_texts(pa.array([SHARED_ROW_KEY]))
    return np.concatenate([shared, hash_texts(vocabulary.keys)])
