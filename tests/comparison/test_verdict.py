"""The sentences say what the numbers do, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from dlrm.comparison.verdict import (
    format_difference,
    format_interval,
    format_p,
    verdict,
)


def difference(value: float, *, error: float, p: float, base: float) -> dict[str, Any]:
    return {
        "baseline": base,
        "candidate": base + value,
        "difference": value,
        "low": value - 2 * error,
        "high": value + 2 * error,
        "p_value": p,
        "p_adjusted": p,
        "standard_error": error,
        "detectable": 2.8 * error or None,
    }


def sentences(
    *, auc: dict | None, loss: dict | None, seeds=(1, 1), group=None, others=0, **extra
) -> list[str]:
    found = {"auc": auc, "log_loss": loss}
    entry = {
        "candidate": "new",
        "differences": {k: v for k, v in found.items() if v is not None},
        "undefined": extra,
    }
    result = {
        "baseline": "old",
        "num_examples": 8000,
        "num_positives": 1200,
        "models": [
            {"name": "old", "paths": ["a"] * seeds[0]},
            {"name": "new", "paths": ["b"] * seeds[1]},
        ],
        "group": group,
        "num_groups": 700,
        "comparisons": [entry] * (1 + others),
    }
    return verdict(result, entry)


SURE = {"error": 0.001, "p": 0.0003}
UNSURE = {"error": 0.01, "p": 0.4}


def test_a_better_model_is_called_so():
    found = sentences(
        auc=difference(0.005, base=0.7, **SURE),
        loss=difference(-0.004, base=0.3, **SURE),
    )
    assert found[0] == (
        "new ranks better than old: AUC 0.7050 against 0.7000 (+0.0050, 95 % interval "
        "+0.0030 to +0.0070, p = 0.0003)."
    )
    assert found[1].startswith("Its probabilities are better: log loss 0.2960 against")
    assert found[2] == (
        "With these 8,000 rows (1,200 clicks) a true difference in AUC of 0.0028 would "
        "be found four times in five; smaller ones are easily missed."
    )
    assert "how much another seed would move it is not in these" in found[3]
    assert "name their column by group=" in found[4]
    assert len(found) == 5


def test_ranking_better_and_promising_worse_is_said_with_a_yet():
    found = sentences(
        auc=difference(0.005, base=0.7, **SURE),
        loss=difference(0.004, base=0.3, **SURE),
    )
    assert found[1].startswith("Yet its probabilities are worse")


def test_chance_is_called_chance():
    found = sentences(
        auc=difference(-0.005, base=0.7, **UNSURE),
        loss=difference(0.004, base=0.3, **UNSURE),
    )
    assert found[0].startswith(
        "No difference in ranking between new and old can be told from chance: AUC "
        "0.6950 against 0.7000 (-0.005"
    )
    assert found[1].startswith("Whose probabilities are better cannot be told")
    assert "better than" not in " ".join(found)


def test_a_worse_model_is_called_so():
    found = sentences(
        auc=difference(-0.005, base=0.7, **SURE),
        loss=difference(0.004, base=0.3, **SURE),
    )
    assert found[0].startswith("new ranks worse than old")
    assert found[1].startswith("Its probabilities are worse")


def test_the_same_predictions_are_called_the_same():
    same = difference(0.0, error=0.0, p=1.0, base=0.7)
    found = sentences(auc=same, loss=same)
    assert found[0] == "new and old rank these rows exactly alike."
    assert found[1] == "new and old promise exactly the same."
    assert not any("four times in five" in text for text in found)


def test_seeds_groups_and_several_candidates_are_told():
    found = sentences(
        auc=difference(0.005, base=0.7, **SURE), loss=None, seeds=(3, 5), group="user"
    )
    assert found[2] == "Intervals carry the test rows and the seeds, 5 against 3."
    assert found[3].startswith("Rows of one user may be correlated: its 700 values")
    uneven = sentences(auc=difference(0.0, base=0.7, **SURE), loss=None, seeds=(1, 3))
    assert uneven[2].endswith("3 against 1; of a single one nothing is known.")
    several = sentences(auc=difference(0.0, base=0.7, **SURE), loss=None, others=2)
    assert several[-1].startswith("3 candidates were tried")


def test_what_cannot_be_compared_says_why():
    found = sentences(auc=None, loss=None, auc_reason="one class")
    assert found == ["new cannot be compared on these rows: one class."]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.00123, 0.01, "+0.0012"),
        (-0.00123456, 0.0001, "-0.00123"),
        (0.0000012, 0.000001, "+0.0000012"),
        (-0.000001, 0.01, "+0.0000"),
        (0.1, 0.0, "+0.10000"),
    ],
)
def test_a_difference_has_two_digits_of_its_error(value, error, text):
    assert format_difference(value, {"standard_error": error}) == text


def test_an_interval_names_both_ends():
    found = difference(0.005, base=0.7, **SURE)
    assert format_interval(found) == "+0.0030 to +0.0070"


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.5, "p = 0.50"), (0.0312, "p = 0.031"), (0.00012, "p = 0.00012"),
     (1e-9, "p < 0.0001"), (1.0, "p = 1.00")],
)  # fmt: skip
def test_a_p_value_has_the_digits_it_is_worth(p_value, text):
    assert format_p(p_value) == text
