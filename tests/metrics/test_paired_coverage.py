"""The 95 % interval of each difference covers the population's value, as it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from dlrm.metrics.paired_metrics import LabelledRows, SeedScores, compare_models
from dlrm.metrics.summary import compute_metrics

PHI = NormalDist().cdf
NAMES = (
    "auc", "log_loss", "normalized_entropy", "brier", "calibration", "pr_auc",
    "accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Draw:
    labels: np.ndarray
    candidate: np.ndarray
    baseline: np.ndarray
    groups: np.ndarray | None = None


def independent_rows(random: np.random.Generator, num_rows: int) -> Draw:
    """Draw clicks of known chance; either model sees a part of what makes them."""
    known, rare = random.normal(size=(2, num_rows))
    labels = random.random(num_rows) < 1 / (1 + np.exp(1.2 - known - 0.7 * rare))
    return Draw(
        labels,
        known + 0.6 * rare + 0.3 * random.normal(size=num_rows) - 1.1,
        0.8 * known - 1.3,
    )


def rows_of_users(random: np.random.Generator, num_rows: int) -> Draw:
    """Draw users of 1 to 9 rows, with tastes that all their rows share."""
    sizes = random.integers(1, 10, num_rows // 5)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    tastes = random.normal(size=(3, len(sizes)))[:, groups]
    known, rare = tastes[:2] + 0.7 * random.normal(size=(2, len(groups)))
    chance = 1 / (1 + np.exp(1.0 - known - 0.7 * rare - 0.5 * tastes[2]))
    return Draw(
        random.random(len(groups)) < chance,
        known + 0.6 * rare - 1.0,
        0.8 * known - 1.1,
        groups,
    )


def population(
    draw: Callable[..., Draw], *, num_parts: int, num_rows: int = 1_000_000
) -> dict[str, float]:
    """Return the true differences, from ``num_rows`` rows times ``num_parts``."""
    found: dict[str, list[float]] = {}
    for part in range(num_parts):
        rows = draw(np.random.default_rng([1, part]), num_rows)
        metrics: list[dict[str, Any]] = [
            compute_metrics(rows.labels, scores, None, rows.groups)
            for scores in (rows.candidate, rows.baseline)
        ]
        for name in (*NAMES, *(["gauc"] if rows.groups is not None else [])):
            found.setdefault(name, []).append(metrics[0][name] - metrics[1][name])
    return {name: float(np.mean(values)) for name, values in found.items()}


def coverage(
    draw: Callable[..., Draw],
    truth: dict[str, float],
    *,
    num_simulations: int,
    num_rows: int,
    num_draws: int,
) -> dict[str, float]:
    """Return how often each interval of as many comparisons holds the truth."""
    inside = dict.fromkeys(truth, 0)
    for simulation in range(num_simulations):
        rows = draw(np.random.default_rng([7, simulation]), num_rows)
        compared = compare_models(
            LabelledRows(rows.labels, None, rows.groups),
            SeedScores([rows.candidate], [rows.candidate]),
            SeedScores([rows.baseline], [rows.baseline]),
            num_draws=num_draws,
            seed=simulation,
        )
        assert compared.undefined == {}
        for name, value in truth.items():
            low, high = compared.found[name].interval
            inside[name] += low <= value <= high
    return {name: number / num_simulations for name, number in inside.items()}


@pytest.mark.parametrize("draw", [independent_rows, rows_of_users])
def test_intervals_cover_in_a_few_simulations(draw: Callable[..., Draw]):
    truth = population(draw, num_parts=1, num_rows=200_000)
    found = coverage(draw, truth, num_simulations=100, num_rows=600, num_draws=60)
    # Three and a half standard errors of a share of 95 % in 100 simulations.
    assert {name: value for name, value in found.items() if value < 0.87} == {}


def test_intervals_of_few_seeds_cover_what_other_seeds_would_give():
    # A seed moves a model's skill; the truth is the mean over seeds, drawn by itself.
    random = np.random.default_rng(5)

    def scores(labels: np.ndarray, skill: float) -> np.ndarray:
        return (skill + 0.3 * random.normal()) * labels + random.normal(
            size=len(labels)
        )

    skills = 1.2 + 0.3 * random.normal(size=(2, 20_000))
    skills[1] -= 0.4
    # Two normal scores of equal spread: AUC is Phi(skill / sqrt(2)).
    aucs = [np.mean([PHI(skill / np.sqrt(2)) for skill in side]) for side in skills]
    inside = 0
    for _ in range(400):
        labels = random.random(300) < 0.4
        ours = SeedScores([scores(labels, 1.2) for _ in range(4)])
        theirs = SeedScores([scores(labels, 0.8) for _ in range(3)])
        compared = compare_models(LabelledRows(labels), ours, theirs, num_draws=0)
        low, high = compared.found["auc"].interval
        inside += low <= aucs[0] - aucs[1] <= high
    # Seeds' variances of three and four are rough, and Welch's degrees with them: 91
    # to 99 %. By the normal distribution it would be below 88 %.
    assert 0.91 <= inside / 400 <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("draw", [independent_rows, rows_of_users])
def test_2000_intervals_cover_the_population_in_93_to_97_percent(
    draw: Callable[..., Draw],
):
    # Users: 240 of them, on average five rows each.
    truth = population(draw, num_parts=10)
    found = coverage(draw, truth, num_simulations=2000, num_rows=1200, num_draws=200)
    outside = {
        name: value for name, value in found.items() if not 0.93 <= value <= 0.97
    }
    assert outside == {}, found
