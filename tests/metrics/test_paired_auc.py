"""The difference of two AUCs on the same rows, and how sure it is."""

import itertools

import numpy as np
import pytest

from dlrm.metrics.paired_auc import compare_auc
from dlrm.metrics.ranking import auc
from dlrm.metrics.undefined import UndefinedMetricError

RANDOM = np.random.default_rng(5)


def scores_of(labels: np.ndarray, *, skill: float) -> np.ndarray:
    """Return scores with ties."""
    return np.round(skill * labels + RANDOM.normal(size=len(labels)), 1)


def pair(click: float, other: float) -> float:
    return 1.0 if click > other else 0.5 if click == other else 0.0


def test_the_difference_is_that_of_the_mean_aucs():
    labels = RANDOM.integers(0, 2, 300)
    ours = [scores_of(labels, skill=1.0) for _ in range(3)]
    theirs = [scores_of(labels, skill=0.5) for _ in range(2)]
    expected = np.mean([auc(labels, s) for s in ours]) - np.mean(
        [auc(labels, s) for s in theirs]
    )
    assert compare_auc(labels, ours, theirs).difference == pytest.approx(expected)


def test_the_row_error_is_the_double_loop_over_pairs():
    labels = RANDOM.integers(0, 2, 40)
    ours, theirs = scores_of(labels, skill=1.0), scores_of(labels, skill=0.3)
    clicks, others = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    gain = np.array(
        [
            [pair(ours[c], ours[o]) - pair(theirs[c], theirs[o]) for o in others]
            for c in clicks
        ]
    )
    variance = gain.mean(1).var(ddof=1) / len(clicks)
    variance += gain.mean(0).var(ddof=1) / len(others)
    found = compare_auc(labels, [ours], [theirs])
    assert found.row_error == pytest.approx(variance**0.5)
    assert found.seed_error == 0.0


def test_a_model_against_itself_differs_by_nothing_for_sure():
    labels = RANDOM.integers(0, 2, 50)
    scores = scores_of(labels, skill=1.0)
    found = compare_auc(labels, [scores], [scores])
    assert found.difference == 0.0
    assert found.interval == (0.0, 0.0)


def test_the_interval_covers_the_true_difference_nineteen_times_in_twenty():
    # Two scores a row that share half of their noise; the truth from many rows.
    random = np.random.default_rng(0)

    def draw(num_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = random.integers(0, 2, num_rows)
        shared = random.normal(size=num_rows)
        ours = labels + shared + random.normal(size=num_rows)
        theirs = 0.8 * labels + shared + random.normal(size=num_rows)
        return labels, ours, theirs

    labels, ours, theirs = draw(400_000)
    truth = auc(labels, ours) - auc(labels, theirs)
    inside = 0
    for _ in range(400):
        labels, ours, theirs = draw(300)
        low, high = compare_auc(labels, [ours], [theirs]).interval
        inside += low <= truth <= high
    # 3.5 standard errors of a share of 95 % in 400 draws.
    assert abs(inside / 400 - 0.95) < 3.5 * (0.95 * 0.05 / 400) ** 0.5


def obuchowski(gain: np.ndarray, of_clicks: np.ndarray, of_others: np.ndarray) -> float:
    """Return the variance of Obuchowski 1997, equation 4, in its own letters.

    ``gain`` [clicks, others] is the candidate's pair value less the baseline's.
    """
    theta, (big_m, big_n) = gain.mean(), gain.shape
    groups = sorted({*of_clicks.tolist(), *of_others.tolist()})
    tens, ones = [], []
    for group in groups:
        clicks = gain.mean(axis=1)[of_clicks == group]
        others = gain.mean(axis=0)[of_others == group]
        tens.append((clicks.sum() - len(clicks) * theta, len(clicks)))
        ones.append((others.sum() - len(others) * theta, len(others)))
    i_10, i_01 = (sum(size > 0 for _, size in part) for part in (tens, ones))
    s_10 = i_10 / ((i_10 - 1) * big_m) * sum(value**2 for value, _ in tens)
    s_01 = i_01 / ((i_01 - 1) * big_n) * sum(value**2 for value, _ in ones)
    i = len(groups)
    s_11 = i / (i - 1) * sum(a * b for (a, _), (b, _) in zip(tens, ones, strict=True))
    return s_10 / big_m + s_01 / big_n + 2 * s_11 / (big_m * big_n)


def test_the_error_of_grouped_rows_is_obuchowskis():
    labels = RANDOM.integers(0, 2, 60)
    groups = RANDOM.integers(0, 12, 60)
    ours, theirs = scores_of(labels, skill=1.0), scores_of(labels, skill=0.3)
    clicks, others = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    gain = np.array(
        [
            [pair(ours[c], ours[o]) - pair(theirs[c], theirs[o]) for o in others]
            for c in clicks
        ]
    )
    expected = obuchowski(gain, groups[clicks], groups[others])
    found = compare_auc(labels, [ours], [theirs], groups=groups)
    assert found.row_error == pytest.approx(expected**0.5)
    names = np.array([f"user {code}" for code in groups])
    named = compare_auc(labels, [ours], [theirs], groups=names)
    # Names sort otherwise than codes, so the sums may differ in their last bits.
    assert named.row_error == pytest.approx(found.row_error, rel=1e-12)


def test_groups_of_one_row_each_are_independent_rows():
    labels = RANDOM.integers(0, 2, 60)
    ours, theirs = scores_of(labels, skill=1.0), scores_of(labels, skill=0.3)
    alone = np.ma.array(np.zeros(60), mask=True)
    expected = compare_auc(labels, [ours], [theirs]).row_error
    for groups in (np.arange(60), alone):
        found = compare_auc(labels, [ours], [theirs], groups=groups)
        assert found.row_error == pytest.approx(expected)


def test_a_weight_of_two_is_a_row_and_its_copy_in_one_group():
    labels, weights = RANDOM.integers(0, 2, 50), RANDOM.integers(0, 3, 50)
    ours, theirs = scores_of(labels, skill=1.0), scores_of(labels, skill=0.3)
    found = compare_auc(labels, [ours], [theirs], weights=weights)
    copies = np.repeat(np.arange(50), weights)
    expected = compare_auc(
        labels[copies], [ours[copies]], [theirs[copies]], groups=copies
    )
    assert found.difference == pytest.approx(expected.difference)
    assert found.row_error == pytest.approx(expected.row_error)


def test_one_click_varies_in_nothing():
    with pytest.raises(UndefinedMetricError, match="fewer than two rows of a class"):
        compare_auc(np.array([1, 0, 0]), [np.arange(3.0)], [np.arange(3.0)])


def test_the_seed_error_is_that_of_two_means():
    labels = RANDOM.integers(0, 2, 60)
    ours = [scores_of(labels, skill=1.0) for _ in range(3)]
    theirs = [scores_of(labels, skill=1.0) for _ in range(4)]
    parts = [
        np.var([auc(labels, s) for s in scores], ddof=1) / len(scores)
        for scores in (ours, theirs)
    ]
    found = compare_auc(labels, ours, theirs)
    assert found.seed_error == pytest.approx(sum(parts) ** 0.5)


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_has_no_auc_to_compare(value: int):
    scores = np.arange(3.0)
    with pytest.raises(UndefinedMetricError, match="one class"):
        compare_auc(np.full(3, value), [scores], [scores])


def test_a_model_without_scores_is_refused():
    for ours, theirs in itertools.permutations(([], [np.arange(2.0)])):
        with pytest.raises(ValueError, match="at least one seed"):
            compare_auc(np.array([0, 1]), ours, theirs)
