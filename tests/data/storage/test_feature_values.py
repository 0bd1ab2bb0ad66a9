"""A feature's values taken from other rows: that one's, whole, and no other's."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dlrm.config.features import DenseFeature
from dlrm.config.schema import FeatureSchema, FittedDense
from dlrm.data.storage.feature_values import (
    bag_of,
    feature_places,
    take_rows,
    with_values_of,
)
from dlrm.data.storage.rows import EncodedRows
from tests.builders import random_rows, small_schema


def schema() -> FeatureSchema:
    small = small_schema(widths=(4, 4, 4, 4))
    indicated = FittedDense(name="d2", feature=DenseFeature(missing_indicator=True))
    sparse = tuple(
        dataclasses.replace(
            fitted,
            feature=dataclasses.replace(fitted.feature, multi_hot=place in (1, 3)),
        )
        for place, fitted in enumerate(small.sparse)
    )
    return dataclasses.replace(small, dense=(*small.dense, indicated), sparse=sparse)


def some_rows(num_rows: int, seed: int, *, weighted: bool) -> EncodedRows:
    rows = random_rows(schema(), num_rows=num_rows, seed=seed)
    weights = np.random.default_rng(seed).random(len(rows.bag_values))
    return dataclasses.replace(
        rows, bag_weights=weights.astype(np.float32) if weighted else None
    )


def as_dicts(rows: EncodedRows) -> list[dict[str, Any]]:
    """Return each row's values by feature, read id by id."""
    fitted, found, at = schema(), [], 0
    bags = [feature.name for feature in fitted.multi_hot]
    for row in range(len(rows)):
        own: dict[str, Any] = {
            "d0": rows.dense[row, 0],
            "d1": rows.dense[row, 1],
            "d2": tuple(rows.dense[row, 2:4]),
        }
        for column, feature in enumerate(fitted.one_hot):
            own[feature.name] = rows.one_hot[row, column]
        for name, length in zip(bags, rows.bag_lengths[row], strict=True):
            part = slice(at, at + length)
            weights = None if rows.bag_weights is None else rows.bag_weights[part]
            own[name] = (
                rows.bag_values[part].tolist(),
                None if weights is None else weights.tolist(),
            )
            at += length
        found.append(own)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("place", feature_places(schema()), ids=lambda p: p.name)
def test_one_features_values_come_from_the_donors_and_all_else_stays(place, weighted):
    rows = some_rows(9, 1, weighted=weighted)
    donors = some_rows(5, 2, weighted=weighted)
    index = np.array([4, 0, 0, 3, 1, 2, 4, 4, 1])
    before, given = as_dicts(rows), as_dicts(donors)
    found = with_values_of(rows, place, donors, index)
    wanted = [
        {**own, place.name: given[donor][place.name]}
        for own, donor in zip(before, index, strict=True)
    ]
    assert as_dicts(found) == wanted
    assert as_dicts(rows) == before
    assert np.array_equal(found.labels, rows.labels)


def test_rows_are_taken_in_the_order_asked_for():
    rows = some_rows(6, 3, weighted=True)
    before = as_dicts(rows)
    found = take_rows(rows, np.array([5, 2, 2, 0]))
    assert as_dicts(found) == [before[5], before[2], before[2], before[0]]
    assert found.labels.tolist() == rows.labels[[5, 2, 2, 0]].tolist()


def test_a_bag_is_that_of_its_row_and_feature():
    rows = some_rows(6, 4, weighted=False)
    names = [feature.name for feature in schema().multi_hot]
    for row, own in enumerate(as_dicts(rows)):
        for column, name in enumerate(names):
            assert bag_of(rows, column, row).tolist() == own[name][0]


def test_every_feature_has_one_place_and_places_cover_all_columns():
    places = feature_places(schema())
    assert [place.name for place in places] == [
        "d0",
        "d1",
        "d2",
        "s0",
        "s1",
        "s2",
        "s3",
    ]
    columns = [
        column
        for place in places
        if place.dense is not None
        for column in range(place.dense.start, place.dense.stop)
    ]
    assert columns == list(range(schema().num_dense))
