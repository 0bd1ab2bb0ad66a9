from __future__ import annotations

import numpy as np
import pytest

from dlrm.metrics.at_k import mean_loss, precision_at_k, recall_at_k
from dlrm.metrics.undefined import UndefinedMetricError


def random_rows(seed, num_rows=40, num_classes=6, k=4):
    """Return hits, num_labels and weights, with the true sets and lists behind them."""
    random = np.random.default_rng(seed)
    truth = [
        set(random.choice(num_classes + 2, random.integers(0, 4), replace=False))
        for _ in range(num_rows)
    ]
    listed = np.stack([random.permutation(num_classes)[:k] for _ in range(num_rows)])
    hits = np.array(
        [[x in own for x in row] for own, row in zip(truth, listed, strict=True)]
    )
    num_labels = np.array([len(own) for own in truth], dtype=np.int32)
    weights = random.choice([0.0, 0.5, 2.0], num_rows).astype(np.float32)
    return hits, num_labels, weights, truth, listed


@pytest.mark.parametrize("k", [1, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_precision_and_recall_are_those_of_a_double_loop(seed, k):
    hits, num_labels, weights, truth, listed = random_rows(seed)
    shown = right = wanted = 0.0
    for own, row, weight in zip(truth, listed, weights.tolist(), strict=True):
        for label in row[:k]:
            shown += weight * bool(own)
            right += weight * (label in own)
        wanted += weight * len(own)
    rows = (hits, num_labels, weights)
    assert precision_at_k(*rows, k) == pytest.approx(right / shown)
    assert recall_at_k(*rows, k) == pytest.approx(right / wanted)


def test_k_beyond_the_number_of_classes_is_that_number():
    rows = (np.array([[True, False]]), np.array([1]), np.ones(1))
    assert precision_at_k(*rows, 5) == 0.5
    assert recall_at_k(*rows, 5) == 1.0


def test_a_class_that_training_never_saw_is_a_miss():
    hits = np.array([[True], [False]])
    rows = (hits, np.array([2, 1]), np.ones(2))
    assert precision_at_k(*rows, 1) == 0.5
    assert recall_at_k(*rows, 1) == pytest.approx(1 / 3)


def test_rows_without_a_class_are_left_out_of_both():
    rows = (np.array([[True], [False]]), np.array([1, 0]), np.ones(2))
    assert precision_at_k(*rows, 1) == 1.0
    assert recall_at_k(*rows, 1) == 1.0


def test_without_any_class_both_are_undefined():
    rows = (np.zeros((2, 1), dtype=bool), np.array([0, 1]), np.array([1.0, 0.0]))
    for metric in (precision_at_k, recall_at_k):
        with pytest.raises(UndefinedMetricError, match="no row has a class"):
            metric(*rows, 1)


def test_rows_without_a_loss_are_left_out_of_its_mean():
    losses, weights = np.array([1.0, np.nan, 4.0]), np.array([1.0, 5.0, 2.0])
    assert mean_loss(losses, weights) == 3.0
    with pytest.raises(UndefinedMetricError, match="training saw"):
        mean_loss(np.array([np.nan]), np.ones(1))
