"""One feature's values in encoded rows, and rows that take them from other rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from dlrm.config.schema import FeatureSchema, FittedDense, FittedSparse
from dlrm.data.storage.rows import EncodedRows, starts_of
from dlrm.data.storage.split_rows import gather_ragged


@dataclass(frozen=True, slots=True)
class FeaturePlace:
    """Where a feature's values lie in ``EncodedRows``: one of three arrays has them."""

    name: str
    fitted: FittedDense | FittedSparse
    dense: slice | None = None
    """Columns of ``dense``: the value and, where there is one, its indicator."""
    one_hot: int | None = None
    """Column of ``one_hot``."""
    bag: int | None = None
    """Column of ``bag_lengths``."""


def feature_places(schema: FeatureSchema) -> list[FeaturePlace]:
    """Return the places of all features, dense ones first, in schema order."""
    found, column = [], 0
    for dense in schema.dense:
        columns = slice(column, column + dense.num_columns)
        found.append(FeaturePlace(dense.name, dense, dense=columns))
        column = columns.stop
    one_hot = {fitted.name: i for i, fitted in enumerate(schema.one_hot)}
    bags = {fitted.name: i for i, fitted in enumerate(schema.multi_hot)}
    for sparse in schema.sparse:
        found.append(
            FeaturePlace(
                sparse.name,
                sparse,
                one_hot=one_hot.get(sparse.name),
                bag=bags.get(sparse.name),
            )
        )
    return found


def take_rows(rows: EncodedRows, index: np.ndarray) -> EncodedRows:
    """Return the rows with these numbers, int64 [R], in this order, as copies."""
    starts = rows.value_starts()
    lengths = np.diff(starts)[index]
    weights = rows.bag_weights
    return EncodedRows(
        labels=rows.labels[index],
        weights=rows.weights[index],
        dense=rows.dense[index],
        one_hot=rows.one_hot[index],
        bag_lengths=rows.bag_lengths[index],
        bag_values=gather_ragged(rows.bag_values, starts[index], lengths),
        bag_weights=None
        if weights is None
        else gather_ragged(weights, starts[index], lengths),
    )


def with_values_of(
    rows: EncodedRows, place: FeaturePlace, donors: EncodedRows, index: np.ndarray
) -> EncodedRows:
    """Return ``rows`` whose row i has a feature's value of donor ``index[i]``.

    A dense value comes with its indicator, a bag whole with its weights. ``rows`` stay
    as they are; what does not change is shared.
    """
    if place.dense is not None:
        dense = rows.dense.copy()
        dense[:, place.dense] = donors.dense[index, place.dense]
        return dataclasses.replace(rows, dense=dense)
    if place.one_hot is not None:
        one_hot = rows.one_hot.copy()
        one_hot[:, place.one_hot] = donors.one_hot[index, place.one_hot]
        return dataclasses.replace(rows, one_hot=one_hot)
    assert place.bag is not None
    return _with_bags_of(rows, place.bag, donors, index)


def bag_of(rows: EncodedRows, column: int, row: int) -> np.ndarray:
    """Return the ids of one row's bag."""
    starts = starts_of(rows.bag_lengths.reshape(-1))
    first = row * rows.bag_lengths.shape[1] + column
    return rows.bag_values[starts[first] : starts[first + 1]]


def _with_bags_of(
    rows: EncodedRows, column: int, donors: EncodedRows, index: np.ndarray
) -> EncodedRows:
    # All ids stand in one array, so that every bag is gathered anew from both.
    shape, width = rows.bag_lengths.shape, donors.bag_lengths.shape[1]
    starts = starts_of(rows.bag_lengths.reshape(-1))[:-1].reshape(shape).copy()
    given = starts_of(donors.bag_lengths.reshape(-1))[index * width + column]
    starts[:, column] = given + len(rows.bag_values)
    lengths = rows.bag_lengths.copy()
    lengths[:, column] = donors.bag_lengths[index, column]
    flat_starts, flat_lengths = starts.reshape(-1), lengths.reshape(-1)
    values = np.concatenate([rows.bag_values, donors.bag_values])
    weights = None
    if rows.bag_weights is not None:
        assert donors.bag_weights is not None, "rows of another schema"
        joined = np.concatenate([rows.bag_weights, donors.bag_weights])
        weights = gather_ragged(joined, flat_starts, flat_lengths.astype(np.int64))
    return dataclasses.replace(
        rows,
        bag_lengths=lengths,
        bag_values=gather_ragged(values, flat_starts, flat_lengths.astype(np.int64)),
        bag_weights=weights,
    )
