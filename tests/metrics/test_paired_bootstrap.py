"""Drawing rows anew: the draws, the metrics of a draw, and the errors they give."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dlrm.metrics.intervals import normalized_entropy_estimate, pr_auc_estimate
from dlrm.metrics.paired_bootstrap import (
    BootstrapRows,
    SortedScores,
    bootstrap_variances,
    poisson_draws,
)
from dlrm.metrics.rows import check_rows
from dlrm.metrics.undefined import UndefinedMetricError

RANDOM = np.random.default_rng(11)


def rows_of(num_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels and two models' logits, with ties."""
    labels = RANDOM.random(num_rows) < 0.3
    shared = RANDOM.normal(size=num_rows)
    ours = np.round(1.5 * labels + shared - 1.0, 2)
    theirs = np.round(labels + shared + RANDOM.normal(size=num_rows) - 1.0, 2)
    return labels, ours, theirs


def test_rows_are_drawn_once_on_average_as_poisson_counts_are():
    counts = np.concatenate(list(poisson_draws(1000, num_draws=400, seed=0, entries=9)))
    assert counts.shape == (400, 1000)
    # Five standard errors of mean and variance over 400,000 draws.
    assert counts.mean() == pytest.approx(1.0, abs=0.008)
    assert counts.var() == pytest.approx(1.0, abs=0.014)
    assert np.mean(counts == 0) == pytest.approx(np.exp(-1.0), abs=0.004)


def test_a_block_holds_no_more_than_it_may():
    sizes = [len(b) for b in poisson_draws(10, num_draws=25, seed=0, entries=100)]
    assert sizes == [10, 10, 5]
    assert [len(b) for b in poisson_draws(500, num_draws=2, seed=0, entries=9)] == [
        1,
        1,
    ]


def test_precision_of_a_draw_is_scikit_learns_of_weighted_rows():
    labels, ours, _ = rows_of(120)
    weights = RANDOM.poisson(1.0, size=(6, 120)).astype(np.float64)
    found = SortedScores.of(labels, ours).average_precision(weights)
    expected = [average_precision_score(labels, ours, sample_weight=w) for w in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_draw_without_clicks_has_no_precision():
    labels = np.array([True, False, True])
    found = SortedScores.of(labels, np.arange(3.0)).average_precision(
        np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    )
    assert np.isnan(found[0])
    assert found[1] == 1.0


def test_the_errors_are_near_those_of_a_linear_formula():
    labels, ours, theirs = rows_of(4000)
    rows = [check_rows(labels, scores, None) for scores in (ours, theirs)]
    pulls = {
        "pr_auc": [pr_auc_estimate(part).pulls for part in rows],
        "normalized_entropy": [normalized_entropy_estimate(p).pulls for p in rows],
    }
    gains = row_losses(labels, ours) - row_losses(labels, theirs)
    found = bootstrap_variances(
        BootstrapRows(labels, num_draws=1000),
        log_loss_gains=gains,
        candidate=[ours],
        baseline=[theirs],
    )
    for name, (mine, other) in pulls.items():
        linear = np.sqrt(np.sum((mine - other) ** 2))
        # A standard error of 1000 draws is unsure by 2.2 %.
        assert np.sqrt(found[name].value) == pytest.approx(linear, rel=0.08), name
        assert found[name].df == pytest.approx(1 / (1 / 3999 + 1 / 999))


def row_losses(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-logits))
    return -np.log(np.where(labels, p, 1 - p))


def test_whole_groups_are_drawn():
    # Every row five times: drawn alone they would seem five times as many.
    labels, ours, theirs = (np.repeat(part, 5) for part in rows_of(400))
    codes = np.repeat(np.arange(400), 5)

    def error(codes: np.ndarray | None) -> float:
        rows = BootstrapRows(labels, codes=codes, num_draws=400)
        found = bootstrap_variances(
            rows, log_loss_gains=None, candidate=[ours], baseline=[theirs]
        )
        return float(np.sqrt(found["pr_auc"].value))

    assert error(codes) / error(None) == pytest.approx(np.sqrt(5), rel=0.15)


def test_draws_are_those_of_their_seed():
    labels, ours, theirs = rows_of(100)

    def variance(seed: int) -> float:
        rows = BootstrapRows(labels, num_draws=50, seed=seed)
        return bootstrap_variances(
            rows, log_loss_gains=None, candidate=[ours], baseline=[theirs]
        )["pr_auc"].value

    assert variance(0) == variance(0) != variance(1)


def test_the_entropy_of_a_draw_is_of_its_own_click_rate():
    labels, ours, theirs = rows_of(60)
    rows = BootstrapRows(labels, num_draws=200)
    gains = row_losses(labels, ours) - row_losses(labels, theirs)
    expected = []
    for draw in np.concatenate(list(rows.draws())):
        rate = np.average(labels, weights=draw)
        constant = row_losses(labels, np.full(60, np.log(rate / (1 - rate))))
        losses = [
            np.average(row_losses(labels, logits), weights=draw)
            for logits in (ours, theirs)
        ]
        expected.append((losses[0] - losses[1]) / np.average(constant, weights=draw))
    found = bootstrap_variances(
        rows, log_loss_gains=gains, candidate=[ours], baseline=[theirs]
    )
    assert found["normalized_entropy"].value == pytest.approx(
        np.var(expected, ddof=1) * 60 / 59
    )


def test_one_click_in_a_few_rows_is_too_little_to_draw_from():
    labels = np.array([True, False, False])
    with pytest.raises(UndefinedMetricError, match="too few clicks"):
        bootstrap_variances(
            BootstrapRows(labels),
            log_loss_gains=None,
            candidate=[np.arange(3.0)],
            baseline=[np.arange(3.0)],
        )


def test_one_class_has_no_precision():
    with pytest.raises(UndefinedMetricError, match="one class"):
        SortedScores.of(np.zeros(3, dtype=bool), np.arange(3.0))
