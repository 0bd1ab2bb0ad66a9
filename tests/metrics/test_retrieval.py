"""Ties are checked against the mean over all orders that scores leave open."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dlrm.metrics.retrieval import (
    expected_rank,
    mean_reciprocal_rank,
    retrieval_ndcg_at_k,
    retrieval_recall_at_k,
)
from dlrm.metrics.undefined import UndefinedMetricError

SCORES = [(3, 1, 2, 0, 2), (1, 1, 1, 1, 1), (0, 2, 2, 5, 0), (5, 4, 3, 2, 1)]
"""Of five documents; the first is the row's own."""
WEIGHTS = np.array([1.0, 2.0, 0.5, 3.0])


def places(rows):
    better = [sum(s > row[0] for s in row) for row in rows]
    tied = [sum(s == row[0] for s in row) for row in rows]
    return np.array(better), np.array(tied)


def ranks_of_all_orders(row):
    """Return the first document's rank in each order with falling scores."""
    return [
        1 + order.index(0)
        for order in itertools.permutations(range(len(row)))
        if all(row[a] >= row[b] for a, b in itertools.pairwise(order))
    ]


def mean_gain(gain):
    means = [
        np.mean([gain(rank) for rank in ranks_of_all_orders(row)]) for row in SCORES
    ]
    return float(np.sum(WEIGHTS * means) / WEIGHTS.sum())


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9])
def test_recall_at_k_is_the_mean_over_all_orders_of_ties(k):
    found = retrieval_recall_at_k(*places(SCORES), WEIGHTS, k)
    assert found == pytest.approx(mean_gain(lambda rank: rank <= k), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 9])
def test_ndcg_at_k_is_the_mean_over_all_orders_of_ties(k):
    found = retrieval_ndcg_at_k(*places(SCORES), WEIGHTS, k)
    expected = mean_gain(lambda rank: (rank <= k) / math.log2(1 + rank))
    assert found == pytest.approx(expected, abs=1e-12)


def test_reciprocal_rank_is_the_mean_over_all_orders_of_ties():
    found = mean_reciprocal_rank(*places(SCORES), WEIGHTS)
    assert found == pytest.approx(mean_gain(lambda rank: 1 / rank), abs=1e-12)


def test_the_expected_rank_is_the_mean_over_all_orders_of_ties():
    expected = [np.mean(ranks_of_all_orders(row)) for row in SCORES]
    np.testing.assert_allclose(expected_rank(*places(SCORES)), expected)


def test_a_model_that_scores_all_alike_finds_k_of_n():
    rows, n = 4, 20
    better, tied = np.zeros(rows, dtype=int), np.full(rows, n)
    found = retrieval_recall_at_k(better, tied, np.ones(rows), 5)
    assert found == pytest.approx(5 / n)


def test_a_document_that_is_none_of_the_catalogues_is_a_miss():
    better, tied = np.array([0, -1]), np.array([1, 0])
    weights = np.ones(2)
    assert retrieval_recall_at_k(better, tied, weights, 10) == 0.5
    assert mean_reciprocal_rank(better, tied, weights) == 0.5
    assert retrieval_ndcg_at_k(better, tied, weights, 10) == 0.5
    assert np.isnan(expected_rank(better, tied)).tolist() == [False, True]


def test_without_clicks_nothing_is_defined():
    none = np.zeros(0, dtype=int)
    with pytest.raises(UndefinedMetricError, match="no row is a click"):
        retrieval_recall_at_k(none, none, np.zeros(0), 1)
    with pytest.raises(UndefinedMetricError, match="no row is a click"):
        mean_reciprocal_rank(none, none, np.zeros(0))
