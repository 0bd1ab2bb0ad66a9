from __future__ import annotations

import math

import numpy as np
import pytest

from dlrm.data.contract.comparing import (
    MIN_CLASS,
    bin_counts,
    bin_edges,
    collision_chance,
    log_odds,
    separation,
    separation_of_ids,
    stability_index,
)


def test_the_stability_index_is_its_sum_over_bins():
    expected, found = np.array([30, 50, 20]), np.array([10, 10, 80])
    p = [30.5 / 101.5, 50.5 / 101.5, 20.5 / 101.5]
    q = [10.5 / 101.5, 10.5 / 101.5, 80.5 / 101.5]
    by_hand = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert stability_index(expected, found)[0] == pytest.approx(by_hand, rel=1e-12)


def test_samples_of_one_distribution_stay_below_what_chance_explains():
    rng = np.random.default_rng(0)
    beyond = 0
    for _ in range(2000):
        n, m = rng.integers(40, 2000, 2)
        edges = bin_edges(known := rng.lognormal(size=n))
        index, noise = stability_index(
            bin_counts(known, edges), bin_counts(rng.lognormal(size=m), edges)
        )
        beyond += index > noise
    assert beyond <= 20


def test_bins_hold_equally_many_values_and_leave_missing_ones_out():
    values = np.array([*range(100), np.nan], dtype=np.float64)
    assert bin_counts(values, bin_edges(values)).tolist() == [10] * 10


def test_a_column_of_one_value_is_one_bin():
    assert bin_edges(np.full(50, 3.0)) == []


def test_separation_is_the_share_of_pairs_in_order_ties_counted_half():
    rng = np.random.default_rng(1)
    labels = (np.arange(120) % 3 == 0).astype(np.float32)
    scores = rng.integers(0, 6, 120) + labels
    pairs = [
        (a > b) + (a == b) / 2 for a in scores[labels == 1] for b in scores[labels == 0]
    ]
    auc = sum(pairs) / len(pairs)
    assert separation(scores, labels) == pytest.approx(max(auc, 1 - auc), rel=1e-12)


def test_few_rows_of_a_class_separate_nothing():
    labels = np.array([1] * (MIN_CLASS - 1) + [0] * 200, dtype=np.float32)
    assert separation(labels, labels) == 0.5
    labels = np.array([1] * MIN_CLASS + [0] * 200, dtype=np.float32)
    assert separation(labels, labels) == 1.0


def test_an_id_of_its_own_for_each_row_separates_nothing():
    labels = (np.arange(400) % 2).astype(np.float32)
    labels = np.random.default_rng(2).permutation(labels)
    assert separation_of_ids(np.arange(400), labels) == 0.5


def test_the_chance_of_equal_values_is_that_of_pairs():
    values = np.array([1, 1, 1, 2, 2, 3])
    same = sum(a == b for i, a in enumerate(values) for b in values[:i])
    assert collision_chance(values) == pytest.approx(same / 15)


def test_log_odds_are_those_of_the_rate():
    found, _ = log_odds(2500.0, 10_000.0)
    assert found == pytest.approx(math.log(2500.5 / 7500.5))
