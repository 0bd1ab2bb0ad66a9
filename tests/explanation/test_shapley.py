"""Shapley values: efficient to the bit, right for a linear model and by brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from dlrm.data.storage.feature_values import feature_places, take_rows
from dlrm.data.storage.rows import EncodedRows
from dlrm.explanation.scorer import Scorer
from dlrm.explanation.shapley import explain_row, mix_rows
from tests.builders import random_rows, small_schema

SCHEMA = small_schema(num_dense=2, widths=(4, 4))
"""Features d0, d1, s0 (one id) and s1 (a bag)."""
PLACES = feature_places(SCHEMA)


class Function(Scorer):
    """A function of rows in the place of a model."""

    def __init__(self, logits: Callable[[EncodedRows], np.ndarray]) -> None:
        self._function = logits

    def logits(self, rows: EncodedRows) -> np.ndarray:
        return self._function(rows).astype(np.float32)


def bag_sums(rows: EncodedRows) -> np.ndarray:
    bags = np.split(rows.bag_values, np.cumsum(rows.bag_lengths[:, 0])[:-1])
    return np.array([bag.sum() for bag in bags], dtype=np.float64)


def linear(rows: EncodedRows) -> np.ndarray:
    terms = 2 * rows.dense[:, 0] - rows.dense[:, 1] + 0.5 * rows.one_hot[:, 0]
    return terms + 0.25 * bag_sums(rows)


def tangled(rows: EncodedRows) -> np.ndarray:
    product = rows.dense[:, 0] * rows.one_hot[:, 0] - rows.dense[:, 1]
    return np.tanh(product) * (1 + bag_sums(rows)) + rows.dense[:, 0] ** 2


def rows_and_row() -> tuple[EncodedRows, EncodedRows]:
    background = random_rows(SCHEMA, num_rows=40, seed=1)
    return background, random_rows(SCHEMA, num_rows=1, seed=9)


@pytest.mark.parametrize("function", [linear, tangled])
def test_contributions_sum_to_the_logit_less_the_mean_logit(function):
    background, row = rows_and_row()
    found = explain_row(Function(function), PLACES, row, background, seed=0)
    assert found.logit == pytest.approx(function(row)[0], rel=1e-6)
    assert found.mean_logit == pytest.approx(function(background).mean(), rel=1e-6)
    gap = found.values.sum() - (found.logit - found.mean_logit)
    assert abs(gap) < 1e-12


def test_a_linear_models_contributions_are_weight_times_distance_to_the_mean():
    background, row = rows_and_row()
    found = explain_row(Function(linear), PLACES, row, background, seed=0)
    wanted = [
        2 * (row.dense[0, 0] - background.dense[:, 0].mean()),
        -(row.dense[0, 1] - background.dense[:, 1].mean()),
        0.5 * (row.one_hot[0, 0] - background.one_hot[:, 0].mean()),
        0.25 * (bag_sums(row)[0] - bag_sums(background).mean()),
    ]
    assert found.values == pytest.approx(wanted, abs=1e-5)


def test_walks_are_right_on_average_as_all_orders_together_say():
    background, row = rows_and_row()
    joined = EncodedRows(
        *(
            np.concatenate([getattr(background, name), getattr(row, name)])
            for name in (
                "labels", "weights", "dense", "one_hot", "bag_lengths", "bag_values"
            )
        )
    )  # fmt: skip

    def value(taken: set[int]) -> float:
        """Return the mean logit with the row's own values of some features."""
        mask = np.array([[i in taken for i in range(4)]] * 40)
        return float(tangled(mix_rows(PLACES, joined, np.arange(40), mask)).mean())

    exact, orders = np.zeros(4), list(permutations(range(4)))
    for order in orders:
        for step, feature in enumerate(order):
            before = set(order[:step])
            exact[feature] += value(before | {feature}) - value(before)
    exact /= len(orders)
    many = take_rows(background, np.tile(np.arange(40), 150))
    found = explain_row(Function(tangled), PLACES, row, many, seed=3)
    # All background rows stand there equally often: what is left are the orders.
    assert found.values == pytest.approx(exact, abs=5 * found.standard_errors.max())
    assert found.standard_errors.max() < 0.05 * np.abs(exact).max()


def test_a_row_like_all_others_has_nothing_to_explain():
    _, row = rows_and_row()
    same = take_rows(row, np.zeros(5, dtype=np.int64))
    found = explain_row(Function(tangled), PLACES, row, same, seed=0)
    assert found.values == pytest.approx(np.zeros(4), abs=1e-6)


def test_one_feature_alone_has_all_of_it():
    background, row = rows_and_row()
    found = explain_row(Function(linear), PLACES[:1], row, background, seed=0)
    assert found.values.shape == (1,)
    assert found.values[0] == pytest.approx(found.logit - found.mean_logit, abs=1e-12)
