"""What the training rows were like: what new rows are held to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dlrm.config.features import Encoding
from dlrm.config.schema import FeatureSchema
from dlrm.data.contract.comparing import bin_counts, bin_edges, collision_chance
from dlrm.data.contract.picking import TIME, id_column, missing_column, number_column
from dlrm.data.contract.sample import Columns
from dlrm.data.contract.statistics import RowStatistics
from dlrm.data.transforms.vocabulary import Vocabulary

MAX_COMMON_IDS = 20
"""Ids of a feature that are compared one by one; the others are one category."""
MAX_LISTED_ROWS = 1_000
"""Larger tables have no common ids to speak of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberProfile:
    """A dense or bucketized feature over the sampled training rows."""

    num_rows: int
    missing: float
    """Share of rows without value."""
    least: float = 0.0
    greatest: float = 0.0
    edges: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    """Values in each bin; one more than edges."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdProfile:
    """A feature of ids over the sampled training rows."""

    num_rows: int
    missing: float
    common: list[int] = field(default_factory=list)
    """Table rows, the commonest first; empty for a large table."""
    counts: list[int] = field(default_factory=list)
    """Rows of each, and of all others together."""
    shares_row_0: bool = False
    """Whether row 0 is that of all values outside, and so no category."""
    num_ids: int = 0
    new: float | None = None
    """Share of new ids outside that is to be expected; None where none can be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """The training rows."""

    num_rows: int
    num_positives: float | None
    """None where labels are classes."""
    numbers: dict[str, NumberProfile] = field(default_factory=dict)
    ids: dict[str, IdProfile] = field(default_factory=dict)
    newest: float | None = None
    """The greatest time of the sampled rows."""
    same_row: float = 1.0
    """Chance that two rows are equal, were features independent of each other."""
    rows_limit: int = 0
    """Greatest key of the rows whose hashes were kept."""
    ids_limit: int | None = None
    """The same of ids; None where they do not tell rows apart."""


def profile_of(
    train: RowStatistics, schema: FeatureSchema, vocabularies: Mapping[str, Vocabulary]
) -> Profile:
    """Return the profile of the training rows."""
    columns = train.sample.columns()
    times = columns.get(TIME, np.zeros(0))
    known = times[~np.isnan(times)]
    return Profile(
        num_rows=train.num_rows,
        num_positives=None if schema.num_label_bags else train.num_positives,
        numbers={
            name: _number(columns[number_column(name)])
            for name in number_names(schema)
            if number_column(name) in columns
        },
        ids={
            fitted.name: _ids(
                columns[id_column(fitted.name)],
                columns[missing_column(fitted.name)],
                is_small=fitted.num_embeddings <= MAX_LISTED_ROWS,
                shares_row_0=fitted.feature.encoding is Encoding.vocabulary,
                num_ids=train.num_ids[fitted.name],
                new=None
                if fitted.feature.encoding is Encoding.hash
                else _expected_new(train, fitted.name, vocabularies.get(fitted.table)),
            )
            for fitted in schema.sparse
            if id_column(fitted.name) in columns
        },
        newest=float(known.max()) if known.size else None,
        same_row=_same_row(columns),
        rows_limit=train.rows.limit,
        ids_limit=_ids_limit(train),
    )


def number_names(schema: FeatureSchema) -> list[str]:
    """List the features whose raw values are numbers."""
    bucketized = [
        fitted.name
        for fitted in schema.one_hot
        if fitted.feature.encoding is Encoding.bucketize
    ]
    return [fitted.name for fitted in schema.dense] + bucketized


def _number(values: np.ndarray) -> NumberProfile:
    present = values[~np.isnan(values)]
    missing = 1 - present.size / max(values.size, 1)
    if not present.size:
        return NumberProfile(num_rows=values.size, missing=missing)
    edges = bin_edges(values)
    return NumberProfile(
        num_rows=values.size,
        missing=missing,
        least=float(present.min()),
        greatest=float(present.max()),
        edges=edges,
        counts=bin_counts(values, edges).tolist(),
    )


def _ids(
    ids: np.ndarray,
    is_missing: np.ndarray,
    *,
    is_small: bool,
    shares_row_0: bool,
    num_ids: int,
    new: float | None,
) -> IdProfile:
    missing = float(is_missing.mean()) if ids.size else 0.0
    common: list[int] = []
    is_category = categories(ids, is_missing, shares_row_0=shares_row_0)
    if is_small:
        found, counts = np.unique(ids[is_category], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:MAX_COMMON_IDS]
        common = found[order].tolist()
    return IdProfile(
        num_rows=ids.size,
        missing=missing,
        common=common,
        counts=category_counts(ids[is_category], common).tolist(),
        shares_row_0=shares_row_0,
        num_ids=num_ids,
        new=new,
    )


def categories(
    ids: np.ndarray, is_missing: np.ndarray, *, shares_row_0: bool
) -> np.ndarray:
    """Say which rows have a category: missing and new ones are measured elsewhere."""
    return ~is_missing & (ids > 0) if shares_row_0 else ~is_missing


def category_counts(ids: np.ndarray, common: list[int]) -> np.ndarray:
    """Return the rows of each common id, and of all others together."""
    counts = np.array([int((ids == known).sum()) for known in common], dtype=np.int64)
    return np.append(counts, ids.size - counts.sum())


def _expected_new(
    train: RowStatistics, name: str, vocabulary: Vocabulary | None
) -> float | None:
    """Return the share of ids outside that further rows of training's kind have.

    Good and Turing: the chance that the next id is one of those seen r times is about
    that of training ids seen r + 1 times. So those outside get what training's own
    have, and the rarest of the vocabulary beside them.
    """
    total = train.num_ids[name]
    if not total:
        return None
    outside = train.num_outside[name] / total
    if vocabulary is None or not len(vocabulary.counts):
        return outside
    rarest = vocabulary.counts == vocabulary.counts.min()
    mass = float(vocabulary.counts[rarest].sum())
    return min(1.0, outside + mass / max(total, float(vocabulary.counts.sum())))


def _same_row(columns: Columns) -> float:
    chances = [
        collision_chance(values)
        for name, values in columns.items()
        if name != TIME and not name.startswith("missing:")
    ]
    return math.prod(chances)


def _ids_limit(train: RowStatistics) -> int | None:
    hashes = train.ids.hashes()
    if not hashes.size or np.unique(hashes).size < 0.99 * hashes.size:
        return None
    return train.ids.limit
