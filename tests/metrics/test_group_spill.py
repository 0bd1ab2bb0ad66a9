"""Metrics within groups, dealt to files: those of all rows at once."""

from pathlib import Path

import numpy as np
import pytest

from dlrm.metrics.group_spill import SpilledGroups
from dlrm.metrics.summary import GROUP_METRIC_NAMES, compute_metrics

COUNTS = ("gauc_num_groups", "gauc_num_groups_left_out", "gauc_num_rows_left_out")


def spilled(folder: Path, *rows: tuple[np.ndarray, ...]) -> dict[str, object]:
    with SpilledGroups(folder=folder) as state:
        for part in rows:
            state.update(*part)
        found = state.compute()
    assert list(folder.iterdir()) == []
    return found


@pytest.mark.parametrize("weighing", ["alike", "half", "mixed", "some zero"])
def test_groups_in_files_give_the_metrics_of_all_rows_at_once(
    tmp_path: Path, weighing: str
):
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 4000).astype(np.float32)
    logits = random.normal(size=4000).round(1).astype(np.float32)
    weights = {
        "alike": np.ones(4000),
        "half": np.full(4000, 0.5),
        "mixed": random.uniform(0.1, 3, 4000),
        "some zero": random.integers(0, 3, 4000).astype(float),
    }[weighing]
    missing = random.random(4000) < 0.05
    groups = np.ma.array(random.integers(0, 600, 4000).astype(np.uint64), mask=missing)
    columns = (labels, logits, weights, groups)
    found = spilled(
        tmp_path,
        *[tuple(c[cut] for c in columns) for cut in (np.s_[:1500], np.s_[1500:])],
    )
    whole = compute_metrics(labels, logits, weights, groups)
    for name in GROUP_METRIC_NAMES:
        assert found[name] == pytest.approx(whole[name], rel=1e-12), name
    assert {n: found[n] for n in COUNTS} == {n: whole[n] for n in COUNTS}


def test_without_a_group_of_both_classes_nothing_has_a_value(tmp_path: Path):
    ones, groups = np.ones(3), np.arange(3, dtype=np.uint64)
    found = spilled(tmp_path, (ones, ones, ones, groups))
    whole = compute_metrics(ones, ones, ones, groups)
    assert found == {name: whole[name] for name in (*GROUP_METRIC_NAMES, *COUNTS)} | {
        "undefined": dict.fromkeys(GROUP_METRIC_NAMES, "no group with both classes")
    }


def test_a_score_that_is_nan_leaves_all_without_a_value(tmp_path: Path):
    logits, groups = np.array([0.5, np.nan]), np.zeros(2, dtype=np.uint64)
    found = spilled(tmp_path, (np.array([0.0, 1.0]), logits, np.ones(2), groups))
    assert found["gauc"] is None
    assert found["undefined"]["gauc"] == "1 of 2 scores are NaN"
