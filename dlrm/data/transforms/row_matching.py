"""Which row of an old table a row of a new one stands for: rows are matched by key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlrm.config.features import Encoding
from dlrm.config.schema import FeatureSchema, FittedSparse
from dlrm.config.table_options import CompressionMethod
from dlrm.data.transforms.table_keys import TableKeys
from dlrm.data.transforms.vocabulary import Vocabulary

NEW_ROW = -1


@dataclass(frozen=True, slots=True)
class FittedTables:
    """A folder with ``schema.json`` and ``vocabularies/``: a run's or a dataset's."""

    folder: Path
    schema: FeatureSchema

    def first_user(self, table: str) -> FittedSparse:
        """Return the first of the features that read a table."""
        return self.schema.tables[table][0]

    def vocabulary(self, table: str) -> Vocabulary:
        """Read a table's vocabulary.

        Raises:
            DatasetError: It is missing or damaged.
        """
        fitted = self.first_user(table)
        return Vocabulary.load(self.folder, fitted.vocabulary, fitted.num_known)

    def keys(self, table: str) -> TableKeys:
        """Return what the ids of a table stand for.

        Raises:
            DatasetError: Its vocabulary is missing or damaged.
        """
        fitted = self.first_user(table)
        known = fitted.feature.encoding is Encoding.vocabulary
        return TableKeys(fitted, self.vocabulary(table) if known else None)


@dataclass(frozen=True, slots=True)
class RowMatch:
    """The old row of each new row, or why no row matches."""

    sources: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 [rows of the new table]; ``NEW_ROW`` where there is none."""
    num_old: int = 0
    reason: str = ""
    """Why nothing matches; empty where rows do."""

    @property
    def num_dropped(self) -> int:
        """Count the old rows that no new row stands for."""
        return self.num_old - np.unique(self.sources[self.sources >= 0]).size


def data_table(schema: FeatureSchema, table: str) -> str:
    """Return the data's table that a model's table reads the ids of.

    It is the table itself or, for a derived one such as ``movie/linear``, ``movie``.
    """
    while table not in schema.tables and "/" in table:
        table = table.rpartition("/")[0]
    return table


def match_rows(table: str, *, old: FittedTables, new: FittedTables) -> RowMatch:
    """Match the rows of a data's table between two fitted schemas.

    Values of a vocabulary are matched by text, rows of ``identity`` by number, buckets
    by number where the boundaries are the same. A hashed table may grow to a multiple
    of its rows: a value of row r then finds the old row r modulo the old size; so may
    the buckets of n-grams behind a text's vocabulary. Rows of compressed tables match
    where every id is made of the same rows.

    Raises:
        DatasetError: A vocabulary is missing or damaged.
    """
    if table not in old.schema.tables:
        return RowMatch(reason="the old run has no such table")
    was, now = old.first_user(table), new.first_user(table)
    if was.feature.encoding is not now.feature.encoding:
        came, wanted = was.feature.encoding.value, now.feature.encoding.value
        return RowMatch(reason=f"encoding is {wanted}, was {came}")
    if _is_compressed(old.schema, table) or _is_compressed(new.schema, table):
        return _match_compressed(table, old, new)
    return _match_ids(table, old, new)


def _match_ids(table: str, old: FittedTables, new: FittedTables) -> RowMatch:
    was, now = old.first_user(table), new.first_user(table)
    num_old, num_new = was.num_embeddings, now.num_embeddings
    rows = np.arange(num_new, dtype=np.int64)
    match now.feature.encoding:
        case Encoding.vocabulary:
            return RowMatch(_match_values(table, old, new), num_old)
        case Encoding.identity:
            return RowMatch(np.where(rows < num_old, rows, NEW_ROW), num_old)
        case Encoding.hash if num_new % num_old == 0:
            return RowMatch(rows % num_old, num_old)
        case Encoding.hash:
            return RowMatch(
                reason=f"{num_new:,} hashed rows hold other values than {num_old:,} "
                f"did; a multiple of {num_old:,} would keep them"
            )
        case Encoding.bucketize if was.boundaries == now.boundaries:
            return RowMatch(rows, num_old)
        case Encoding.bucketize:
            return RowMatch(reason="the boundaries of its buckets are others")


def _match_values(table: str, old: FittedTables, new: FittedTables) -> np.ndarray:
    was, now = old.first_user(table), new.first_user(table)
    found = old.vocabulary(table).rows_of(new.vocabulary(table).keys).astype(np.int64)
    # Row 0, which all unknown values share, is no value's own.
    found[found == 0] = NEW_ROW
    buckets = np.full(now.num_buckets, NEW_ROW, dtype=np.int64)
    if was.num_buckets and now.num_buckets % was.num_buckets == 0:
        buckets = was.num_known + np.arange(now.num_buckets) % was.num_buckets
    return np.concatenate([[0], found, buckets])


def _match_compressed(table: str, old: FittedTables, new: FittedTables) -> RowMatch:
    if _composition(old.schema, table) != _composition(new.schema, table):
        return RowMatch(reason="its ids are composed of rows in another way")
    was, now = old.first_user(table), new.first_user(table)
    same = was.boundaries == now.boundaries
    if now.feature.encoding is Encoding.vocabulary:
        same = old.vocabulary(table).keys.equals(new.vocabulary(table).keys)
    if not same:
        return RowMatch(reason="its values have other ids, and share its rows")
    num_rows = new.schema.table_rows(table)
    return RowMatch(np.arange(num_rows, dtype=np.int64), num_rows)


def _is_compressed(schema: FeatureSchema, table: str) -> bool:
    method = schema.options(table).compression.method
    return method is not CompressionMethod.none


def _composition(schema: FeatureSchema, table: str) -> tuple[object, ...]:
    """Return all that says which rows an id of a compressed table is made of."""
    compression = schema.options(table).compression
    num_ids = schema.tables[table][0].num_embeddings
    return (
        compression.method,
        compression.combine,
        num_ids,
        compression.divisor_for(num_ids),
        compression.num_rows,
        compression.num_probes,
    )
