"""Canonical text -> row numbers of an embedding table, by the feature's encoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from dlrm.config.features import Encoding, OutOfRange
from dlrm.config.schema import FittedSparse
from dlrm.data.columns.whole_numbers import whole_numbers
from dlrm.data.transforms.hashing import hash_texts

REFUSED = -1


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Where texts lie in their table."""

    rows: np.ndarray
    """int32; ``REFUSED`` where the policy is ``error``."""
    is_outside: np.ndarray
    """bool: outside the vocabulary or the table, whatever the policy made of it."""


class Lookup(Protocol):
    """Knows the rows of a table's values."""

    def rows_of(self, texts: pa.Array) -> np.ndarray:
        """Return each text's row, int32; 0 where it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class KnownRows:
    """The rows of texts that have been looked up before, in the same order."""

    rows: np.ndarray
    """int32"""

    def rows_of(self, texts: pa.Array) -> np.ndarray:
        """Return the rows, which are those of just these texts."""
        assert len(texts) == self.rows.size, "other texts than were looked up"
        rows: np.ndarray = self.rows.copy()
        return rows


@dataclass(frozen=True, slots=True)
class IdEncoder:
    """A sparse feature's table, and its vocabulary where it has one."""

    fitted: FittedSparse
    vocabulary: Lookup | None = None

    def encode(self, texts: pa.Array) -> EncodedTexts:
        """Return the row of each text under the feature's ``out_of_range`` policy."""
        if self.fitted.feature.encoding is Encoding.hash:
            rows = self._hashed(texts, first_row=0)
            return EncodedTexts(rows, np.zeros(len(texts), dtype=bool))
        if self.fitted.feature.encoding is Encoding.identity:
            return self._identity(texts)
        assert self.vocabulary is not None
        rows = self.vocabulary.rows_of(texts)
        is_outside = rows == 0
        policy = self.fitted.feature.out_of_range
        if policy is OutOfRange.error:
            rows[is_outside] = REFUSED
        elif policy is OutOfRange.hash and self.fitted.num_embeddings > 1:
            outside = texts.filter(pa.array(is_outside))
            rows[is_outside] = self._hashed(outside, first_row=1)
        return EncodedTexts(rows, is_outside)

    def refusal(self, text: str, where: str) -> str:
        """Describe an id that ``encode`` refused."""
        name, size = self.fitted.name, self.fitted.num_embeddings
        key = f"data.sparse_features.{name}"
        came = repr(text) if text else "no value"
        message = (
            f"Feature {name!r} of table {self.fitted.table!r} got {came} in {where}"
        )
        if self.vocabulary is not None:
            return (
                f"{message}, but the vocabulary holds {size - 1:,} other values. Train "
                f"with {key}.out_of_range=oov to send unknown values to the shared row."
            )
        return (
            f"{message}, but the table has rows 0 to {size - 1}. Train with "
            f"{key}.out_of_range=oov to send such ids to row 0, or with a higher "
            f"{key}.num_embeddings."
        )

    def _identity(self, texts: pa.Array) -> EncodedTexts:
        size = self.fitted.num_embeddings
        ids = whole_numbers(texts)
        is_outside = (ids < 0) | (ids >= size)
        rows = np.where(is_outside, 0, ids).astype(np.int32)
        match self.fitted.feature.out_of_range:
            case OutOfRange.error:
                rows[is_outside] = REFUSED
            case OutOfRange.clamp:
                rows = np.clip(ids, 0, size - 1).astype(np.int32)
            case OutOfRange.hash:
                outside = texts.filter(pa.array(is_outside))
                rows[is_outside] = self._hashed(outside, first_row=0)
            case OutOfRange.oov:
                pass
        return EncodedTexts(rows, is_outside)

    def _hashed(self, texts: pa.Array, first_row: int) -> np.ndarray:
        size = np.uint64(self.fitted.num_embeddings - first_row)
        places: np.ndarray = hash_texts(texts) % size
        return places.astype(np.int32) + np.int32(first_row)
