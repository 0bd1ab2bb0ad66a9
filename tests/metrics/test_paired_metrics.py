"""Every metric's difference between two models."""

import numpy as np
import pytest

from dlrm.metrics.paired_metrics import (
    METHODS,
    LabelledRows,
    SeedScores,
    compare_models,
)
from dlrm.metrics.summary import compute_metrics

RANDOM = np.random.default_rng(2)
NUM_ROWS = 300
LABELS = RANDOM.random(NUM_ROWS) < 0.3
GROUPS = RANDOM.integers(0, 40, NUM_ROWS)


def model(skill: float, *, num_seeds: int = 1) -> SeedScores:
    logits = [
        skill * LABELS + RANDOM.normal(size=NUM_ROWS) - 1.0 for _ in range(num_seeds)
    ]
    return SeedScores(logits, logits)


def test_differences_are_those_of_the_metrics_means_over_seeds():
    weights = RANDOM.uniform(0, 2, NUM_ROWS) * (RANDOM.random(NUM_ROWS) < 0.9)
    rows = LabelledRows(LABELS, weights, GROUPS)
    ours, theirs = model(1.0, num_seeds=3), model(0.5, num_seeds=2)
    compared = compare_models(rows, ours, theirs, num_draws=20)
    means = [
        {
            name: np.mean(
                [
                    compute_metrics(LABELS, logits, weights, GROUPS)[name]
                    for logits in seeds.scores
                ]
            )
            for name in METHODS
        }
        for seeds in (ours, theirs)
    ]
    assert compared.undefined == {}
    assert sorted(compared.found) == sorted(METHODS)
    for name, found in compared.found.items():
        expected = means[0][name] - means[1][name]
        assert found.difference == pytest.approx(expected, abs=1e-12), name
        assert found.row_error > 0, name
        assert found.seed_error > 0, name


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_identical_predictions_differ_by_nothing(groups, num_seeds: int):
    ours = model(1.0, num_seeds=num_seeds)
    found = compare_models(LabelledRows(LABELS, None, groups), ours, ours).found
    assert sorted(found) == sorted(
        set(METHODS) - ({"gauc"} if groups is None else set())
    )
    for name, difference in found.items():
        assert difference.difference == 0.0, name
        assert difference.interval == (0.0, 0.0), name
        assert difference.p_value == 1.0, name


def test_logits_and_their_probabilities_are_the_same_model():
    ours = model(1.0)
    chances = [1 / (1 + np.exp(-logits)) for logits in ours.scores]
    again = SeedScores(chances, [np.log(p) - np.log1p(-p) for p in chances])
    for name, found in compare_models(LabelledRows(LABELS), again, ours).found.items():
        assert found.difference == 0.0, name
        assert found.p_value == 1.0, name


def test_the_error_of_log_loss_is_the_paired_t_tests():
    ours, theirs = model(1.0), model(0.5)

    def losses(logits: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-logits))
        return -np.log(np.where(LABELS, p, 1 - p))

    gains = losses(ours.scores[0]) - losses(theirs.scores[0])
    found = compare_models(LabelledRows(LABELS), ours, theirs, num_draws=0).found
    expected = gains.std(ddof=1) / np.sqrt(NUM_ROWS)
    assert found["log_loss"].row_error == pytest.approx(expected)
    assert "pr_auc" not in found


def test_the_mean_auc_of_groups_is_paired_by_group():
    ours, theirs = model(1.0), model(0.5)
    rows = LabelledRows(LABELS, None, GROUPS)
    found = compare_models(rows, ours, theirs, num_draws=0).found["gauc"]
    gains, sizes = [], []
    for group in np.unique(GROUPS):
        inside = group == GROUPS
        clicks, others = inside & LABELS, inside & ~LABELS
        if clicks.any() and others.any():
            aucs = [
                np.mean(np.greater.outer(m.scores[0][clicks], m.scores[0][others]))
                for m in (ours, theirs)
            ]
            gains.append(aucs[0] - aucs[1])
            sizes.append(inside.sum())
    gains, sizes = np.array(gains), np.array(sizes)
    mean = np.average(gains, weights=sizes)
    moves = sizes * (gains - mean) / sizes.sum()
    number = len(gains)
    assert found.difference == pytest.approx(mean)
    expected = np.sqrt(number / (number - 1) * np.sum(moves**2))
    assert found.row_error == pytest.approx(expected)
    assert found.df == number - 1


def test_scores_that_are_no_probabilities_are_judged_by_their_order_alone():
    ours = SeedScores([RANDOM.normal(size=NUM_ROWS)])
    compared = compare_models(LabelledRows(LABELS), ours, model(0.5), num_draws=20)
    assert sorted(compared.found) == ["auc", "pr_auc"]
    assert set(compared.undefined) == set(METHODS) - {"auc", "pr_auc", "gauc"}
    assert set(compared.undefined.values()) == {"the scores are no probabilities"}


def test_one_class_leaves_what_needs_no_two():
    rows = LabelledRows(np.zeros(NUM_ROWS, dtype=bool), None, GROUPS)
    compared = compare_models(rows, model(1.0), model(0.5), num_draws=20)
    assert sorted(compared.found) == ["accuracy", "brier", "log_loss"]
    assert compared.undefined == {
        "auc": "one class",
        "calibration": "no clicks",
        "gauc": "no group with both classes",
        "pr_auc": "one class",
        "normalized_entropy": "one class",
    }


def test_an_infinite_logit_on_the_wrong_side_has_no_log_loss():
    logits = np.where(LABELS, -np.inf, 0.0)
    wrong = SeedScores([logits], [logits])
    compared = compare_models(LabelledRows(LABELS), wrong, model(0.5), num_draws=20)
    for name in ("log_loss", "normalized_entropy"):
        assert compared.undefined[name] == "an infinite logit on the wrong side"
    assert "auc" in compared.found


def test_a_model_without_scores_is_refused():
    with pytest.raises(ValueError, match="at least one seed"):
        compare_models(LabelledRows(LABELS), SeedScores([]), model(0.5))
