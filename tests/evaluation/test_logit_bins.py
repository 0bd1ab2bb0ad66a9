"""Logits in fixed bins: all weight is there, within half a step of where it was."""

import numpy as np
import pytest

from dlrm.evaluation.logit_bins import LogitBins
from dlrm.metrics.summary import compute_metrics


def test_bins_keep_the_weight_of_either_class_and_metrics_to_three_digits():
    random = np.random.default_rng(0)
    logits = random.normal(-2, 1.5, 20_000)
    labels = (random.random(20_000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    weights = random.uniform(0.5, 2, 20_000)
    bins = LogitBins()
    for cut in (np.s_[:7000], np.s_[7000:]):
        bins.add(labels[cut], logits[cut], weights[cut])
    found_labels, found_logits, found_weights = bins.rows()
    for label in (0, 1):
        kept = found_weights[found_labels == label].sum()
        assert kept == pytest.approx(weights[labels == label].sum())
    exact = compute_metrics(labels, logits, weights)
    binned = compute_metrics(found_labels, found_logits, found_weights)
    for name in ("auc", "log_loss", "calibration", "brier"):
        assert binned[name] == pytest.approx(exact[name], rel=1e-3), name


def test_infinite_logits_are_in_the_last_bins_and_nan_in_none():
    bins = LogitBins()
    bins.add(np.array([1.0, 0.0, 1.0]), np.array([np.inf, -np.inf, np.nan]), np.ones(3))
    labels, logits, weights = bins.rows()
    assert list(zip(labels, logits, weights, strict=True)) == [(0, -64, 1), (1, 64, 1)]
