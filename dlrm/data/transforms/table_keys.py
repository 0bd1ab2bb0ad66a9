"""Raw values as rows of a table, and rows as what they stand for."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pyarrow as pa

from dlrm.config.features import Encoding
from dlrm.config.schema import FittedSparse
from dlrm.data.columns.parse_numbers import number_of
from dlrm.data.columns.whole_numbers import whole_numbers
from dlrm.data.transforms.hashing import hash_texts
from dlrm.data.transforms.quantiles import bucket_rows
from dlrm.data.transforms.vocabulary import Vocabulary

NO_ROW = -1


class TableKeys:
    """What the ids of one table stand for.

    A key is a raw value in canonical text. Null is the key of row 0 where all unknown
    or missing values share it: in a vocabulary and in buckets. A bucket's own key is
    its range, ``[20.0, 40.0)``.
    """

    def __init__(self, fitted: FittedSparse, vocabulary: Vocabulary | None) -> None:
        """Take a feature that reads the table, and its vocabulary where it has one."""
        self._fitted, self.vocabulary = fitted, vocabulary
        self.encoding = fitted.feature.encoding

    @property
    def shared(self) -> bool:
        """Say whether several keys have one row."""
        return self.encoding in (Encoding.hash, Encoding.bucketize)

    @property
    def has_unknown_row(self) -> bool:
        """Say whether row 0 stands for all values without a row of their own."""
        return self.encoding in (Encoding.vocabulary, Encoding.bucketize)

    def rows_of(self, texts: pa.Array) -> np.ndarray:
        """Return each text's row, int64; ``NO_ROW`` where it has none of its own."""
        known = texts.fill_null("")
        rows = self._rows(known).astype(np.int64)
        rows[texts.is_null().to_numpy(zero_copy_only=False)] = (
            0 if self.has_unknown_row else NO_ROW
        )
        return rows

    @functools.cached_property
    def keys(self) -> pa.Array:
        """The key of each id; null where no single value is known to be it."""
        size = self._fitted.num_embeddings
        match self.encoding:
            case Encoding.vocabulary:
                assert self.vocabulary is not None
                known = self.vocabulary.keys
                first, last = pa.nulls(1, known.type), size - 1 - len(known)
                return pa.concat_arrays([first, known, pa.nulls(last, known.type)])
            case Encoding.identity:
                return pa.array(np.arange(size)).cast(pa.large_string())
            case Encoding.hash:
                return pa.nulls(size, pa.large_string())
            case Encoding.bucketize:
                return pa.array([None, *self._ranges()], pa.large_string())

    @functools.cached_property
    def counts(self) -> np.ndarray | None:
        """Each id's occurrences in training, -1 where unknown; None without any."""
        if self.vocabulary is None:
            return None
        counts = np.full(self._fitted.num_embeddings, -1, dtype=np.int64)
        counts[1 : len(self.vocabulary.keys) + 1] = self.vocabulary.counts
        return counts

    def _rows(self, texts: pa.Array) -> np.ndarray:
        size = self._fitted.num_embeddings
        match self.encoding:
            case Encoding.vocabulary:
                assert self.vocabulary is not None
                rows = self.vocabulary.rows_of(texts)
                return np.where(rows == 0, NO_ROW, rows)
            case Encoding.identity:
                rows = whole_numbers(texts)
                return np.where((rows < 0) | (rows >= size), NO_ROW, rows)
            case Encoding.hash:
                return hash_texts(texts) % np.uint64(size)
            case Encoding.bucketize:
                return self._buckets(texts)

    def _buckets(self, texts: pa.Array) -> np.ndarray:
        row_of = {text: row for row, text in enumerate(self._ranges(), start=1)}
        rows = np.full(len(texts), NO_ROW, dtype=np.int64)
        for place, text in enumerate(texts.to_pylist()):
            number = number_of(text)
            if text in row_of:
                rows[place] = row_of[text]
            elif number is not None:
                value = np.array([number], dtype=np.float64)
                rows[place] = bucket_rows(value, self._fitted.boundaries)[0]
        return rows

    def _ranges(self) -> list[str]:
        limits = [float("-inf"), *self._fitted.boundaries, float("inf")]
        return [f"[{low}, {high})" for low, high in itertools.pairwise(limits)]
