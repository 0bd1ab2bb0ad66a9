"""Permuted losses: their means by definition, and intervals that cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from dlrm.metrics.permuted import auc_change, draw_donors, log_loss_change
from dlrm.metrics.undefined import UndefinedMetricError

MEASURES = (log_loss_change, auc_change)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def rows(num_rows: int, *, seed: int = 0, repeats: int = 3, ties: bool = True):
    """Return labels, logits, permuted logits and donors, with ties among the logits."""
    random = np.random.default_rng(seed)
    labels = (random.random(num_rows) < 0.4).astype(np.float32)
    labels[:2] = 0, 1
    logits = random.normal(size=num_rows).astype(np.float32)
    donors = draw_donors(num_rows, repeats=repeats, seed=seed)
    permuted = (logits + random.normal(size=donors.shape)).astype(np.float32)
    if ties:
        logits, permuted = np.round(logits, 1), np.round(permuted, 1)
    return labels, logits, permuted, donors


def weights_of(num_rows: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(0.5, 4.0, num_rows).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_change_in_log_loss_is_that_of_scikit_learn(weighted: bool):
    labels, base, permuted, donors = rows(60)
    weights = weights_of(60) if weighted else None
    wanted = np.mean(
        [
            log_loss(labels, sigmoid(z.astype(np.float64)), sample_weight=weights)
            for z in permuted
        ]
    ) - log_loss(labels, sigmoid(base.astype(np.float64)), sample_weight=weights)
    found = log_loss_change(labels, base, permuted, donors, weights=weights)
    assert found.value == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_change_in_auc_is_that_of_scikit_learn_with_ties(weighted: bool):
    labels, base, permuted, donors = rows(60)
    weights = weights_of(60) if weighted else None
    wanted = roc_auc_score(labels, base, sample_weight=weights) - np.mean(
        [roc_auc_score(labels, z, sample_weight=weights) for z in permuted]
    )
    found = auc_change(labels, base, permuted, donors, weights=weights)
    assert found.value == pytest.approx(wanted, abs=1e-12)


def loss_terms(labels, base, permuted, shares) -> np.ndarray:
    def loss(y: float, z: float) -> float:
        return float(-np.log(sigmoid(z) if y else sigmoid(-z)))

    found = np.array(
        [
            [loss(y, z) - loss(y, b) for y, z, b in zip(labels, zs, base, strict=True)]
            for zs in permuted.astype(np.float64)
        ]
    )
    mean = (found * shares).sum() / len(permuted)
    return (found - mean) * shares / len(permuted)


def auc_terms(labels, base, permuted, shares) -> np.ndarray:
    """Return each row's weighted share of pairs won less the AUC, by double loops."""

    def deviations(scores: np.ndarray) -> np.ndarray:
        clicks, others = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
        wins = np.array(
            [
                [
                    (scores[c] > scores[o]) + 0.5 * (scores[c] == scores[o])
                    for o in others
                ]
                for c in clicks
            ]
        )
        p, q = (
            shares[clicks] / shares[clicks].sum(),
            shares[others] / shares[others].sum(),
        )
        area = p @ wins @ q
        found = np.zeros(len(scores))
        found[clicks] = p * (wins @ q - area)
        found[others] = q * (p @ wins - area)
        return found

    own = deviations(base)
    return np.stack([own - deviations(z) for z in permuted]) / len(permuted)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_error_counts_every_pair_of_terms_that_share_a_cluster(
    measure, weighted: bool, grouped: bool
):
    labels, base, permuted, donors = rows(24)
    weights = weights_of(24) if weighted else None
    shares = np.full(24, 1 / 24) if weights is None else weights / weights.sum()
    clusters = np.arange(24) if not grouped else np.arange(24) % 7 * 10
    terms_of = loss_terms if measure is log_loss_change else auc_terms
    terms = terms_of(labels, base, permuted, shares.astype(np.float64))
    entries = [
        (value, {clusters[row], clusters[donor]})
        for values, giving in zip(terms, donors, strict=True)
        for row, (value, donor) in enumerate(zip(values, giving, strict=True))
    ]
    variance = sum(one * other for one, a in entries for other, b in entries if a & b)
    variance = max(variance, sum(value**2 for value, _ in entries))
    num_clusters = len(set(clusters.tolist()))
    wanted = np.sqrt(variance * num_clusters / (num_clusters - 1))
    found = measure(
        labels,
        base,
        permuted,
        donors,
        weights=weights,
        clusters=clusters if grouped else None,
    )
    assert found.standard_error == pytest.approx(wanted, rel=1e-6)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * wanted, rel=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_feature_that_the_model_does_not_read_changes_nothing(measure):
    labels, base, _, donors = rows(40)
    found = measure(labels, base, np.stack([base] * 3), donors)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.covers_zero


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_undefined_is_refused_with_its_reason(measure):
    labels, base, permuted, donors = rows(10)
    bad = permuted.copy()
    bad[1, 3] = np.nan
    with pytest.raises(UndefinedMetricError, match="a logit is not finite"):
        measure(labels, base, bad, donors)
    with pytest.raises(UndefinedMetricError, match="no rows"):
        measure(labels[:0], base[:0], permuted[:, :0], donors[:, :0])


def test_the_auc_of_one_class_is_undefined():
    _, base, permuted, donors = rows(10)
    with pytest.raises(UndefinedMetricError, match="one class"):
        auc_change(np.ones(10), base, permuted, donors)


def test_donors_are_permutations_or_as_frequent_as_they_weigh():
    donors = draw_donors(50, repeats=4, seed=1)
    assert [sorted(row) for row in donors.tolist()] == [list(range(50))] * 4
    assert not np.array_equal(donors[0], donors[1])
    assert np.array_equal(donors, draw_donors(50, repeats=4, seed=1))
    weights = np.repeat([1.0, 3.0], 500)
    drawn = draw_donors(1000, repeats=20, seed=1, weights=weights)
    # 20,000 draws of chance 3/4: a standard error of 0.003.
    assert np.mean(drawn >= 500) == pytest.approx(0.75, abs=0.013)


def world(num_rows: int, random: np.random.Generator, *, users: int = 0):
    """Return two features, a useless one, labels and users; users' rows are alike."""
    if not users:
        x, noise, own = random.normal(size=(3, num_rows))
        user, own = None, 0 * own
    else:
        user = random.integers(0, users, num_rows)
        x = 0.7 * random.normal(size=users)[user] + 0.7 * random.normal(size=num_rows)
        noise, own = random.normal(size=(2, users))[:, user]
    z = random.normal(size=num_rows)
    clicked = random.random(num_rows) < sigmoid(x + 0.5 * z - 1 + 0.7 * own)
    return x, z, noise, clicked.astype(np.float32), user


def model(x, z, noise):
    """A fixed model that has learned a weight for what is useless."""
    return x + 0.5 * z - 1 + 0.3 * noise


def covered(measure, num_times: int, *, num_rows: int, users: int = 0) -> float:
    """Return how often the interval of the useless feature covers 0."""
    hits = 0
    for seed in range(num_times):
        random = np.random.default_rng(seed)
        x, z, noise, labels, user = world(num_rows, random, users=users)
        donors = draw_donors(num_rows, repeats=5, seed=seed)
        permuted = np.stack([model(x, z, noise[donor]) for donor in donors])
        base = model(x, z, noise)
        found = measure(labels, base, permuted, donors, clusters=user)
        hits += found.covers_zero
    return hits / num_times


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("users", [0, 60])
def test_intervals_of_useless_features_cover_zero(measure, users: int):
    # 95 % of 200: a standard error of 1.5 %.
    share = covered(measure, 200, num_rows=400, users=users)
    assert 0.90 <= share <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("users", [0, 200])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("measure", MEASURES)
def test_intervals_of_a_useful_feature_cover_its_population_value(
    measure, weighted: bool, users: int
):
    def measured(num_rows: int, seed: int, users: int):
        random = np.random.default_rng(seed)
        x, z, noise, labels, user = world(num_rows, random, users=users)
        weights = None
        if weighted:
            weights = np.where(labels > 0, 1.0, random.choice([1.0, 4.0], num_rows))
        donors = draw_donors(num_rows, repeats=3, seed=seed, weights=weights)
        permuted = np.stack([model(x[donor], z, noise) for donor in donors])
        return measure(
            labels,
            model(x, z, noise),
            permuted,
            donors,
            weights=weights,
            clusters=user,
        )

    truth = measured(1_000_000, 999, 200_000 if users else 0).value
    found = [measured(1500, seed, users) for seed in range(300)]
    share = np.mean([entry.low <= truth <= entry.high for entry in found])
    # 95 % of 300: a standard error of 1.26 %.
    assert 0.91 <= share <= 0.99
