import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.calibration import (
    calibration,
    ece,
    ece_debiased,
    ece_equal_width,
)
from dlrm.metrics.grouped import gauc
from dlrm.metrics.lift import top_capture, top_lift
from dlrm.metrics.likelihood import (
    brier,
    log_loss,
    normalized_entropy,
    relative_information_gain,
)
from dlrm.metrics.ranking import auc, pr_auc
from dlrm.metrics.rows import Rows
from dlrm.metrics.score_table import merge_tables, tabulate_scores
from dlrm.metrics.state import MetricState
from dlrm.metrics.summary import GROUP_METRIC_NAMES, METRIC_NAMES, compute_metrics
from dlrm.metrics.thresholds import accuracy

FUNCTIONS = {
    "auc": auc,
    "log_loss": log_loss,
    "normalized_entropy": normalized_entropy,
    "brier": brier,
    "calibration": calibration,
    "ece": ece,
    "pr_auc": pr_auc,
    "accuracy": accuracy,
    "rig": relative_information_gain,
    "ece_equal_width": ece_equal_width,
    "ece_debiased": ece_debiased,
    "top_decile_capture": top_capture,
    "lift_top_decile": top_lift,
}


def random_rows(num_rows=500, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.random(num_rows) < 0.2).astype(np.float32)
    logits = np.round(random.normal(-1, 1, num_rows), 1).astype(np.float32)
    weights = random.choice([0.0, 0.5, 2.0], num_rows).astype(np.float32)
    return labels, logits, weights, random.integers(0, 40, num_rows)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_summary_holds_what_each_metric_alone_gives(weighted):
    labels, logits, weights, groups = random_rows()
    given_weights = weights if weighted else None
    found = compute_metrics(labels, logits, given_weights, groups)
    assert found["num_examples"] == 500
    assert found["num_positives"] == int(labels.sum())
    for name, function in FUNCTIONS.items():
        expected = function(labels, logits, given_weights)
        assert found[name] == pytest.approx(expected, abs=1e-13), name
    grouped = gauc(labels, logits, groups, given_weights)
    assert found["gauc"] == grouped.value
    assert found["gauc_num_groups"] == grouped.num_groups
    assert found["gauc_num_groups_left_out"] == grouped.num_groups_left_out
    assert found["gauc_num_rows_left_out"] == grouped.num_rows_left_out


def test_the_keys_are_those_of_metrics_json():
    labels, logits, _, _ = random_rows()
    found = compute_metrics(labels, logits)
    assert list(found) == ["num_examples", "num_positives", *METRIC_NAMES]
    assert json.loads(json.dumps(found)) == found


def test_one_class_leaves_what_needs_two_undefined_and_says_so():
    found = compute_metrics(np.zeros(3), np.zeros(3))
    assert found["auc"] is None
    assert found["log_loss"] == pytest.approx(np.log(2), rel=1e-15)
    assert found["undefined"] == {
        "auc": "one class",
        "pr_auc": "one class",
        "normalized_entropy": "one class",
        "calibration": "no clicks",
        "rig": "one class",
        "top_decile_capture": "one class",
        "lift_top_decile": "one class",
        "recall_at_0_5": "no clicks",
        "f1_at_0_5": "no clicks",
    }


def test_one_nan_logit_leaves_every_metric_undefined():
    labels, logits, weights, groups = random_rows()
    weights[7], logits[7] = 1.0, np.nan
    found = compute_metrics(labels, logits, weights, groups)
    names = {*METRIC_NAMES, *GROUP_METRIC_NAMES}
    assert {name for name in names if found[name] is not None} == set()
    counted = int((weights > 0).sum())
    reason = f"1 of {counted} scores are NaN"
    assert found["undefined"] == dict.fromkeys(names, reason)
    assert found["num_examples"] == 500


def test_a_nan_logit_of_weight_zero_counts_nowhere():
    labels, logits, weights, _ = random_rows()
    weights[7] = 0.0
    expected = compute_metrics(labels, logits, weights)
    logits[7] = np.nan
    assert compute_metrics(labels, logits, weights) == expected


def test_no_rows_have_no_metrics():
    found = compute_metrics(np.zeros(0), np.zeros(0), groups=np.zeros(0))
    assert found["num_examples"] == found["num_positives"] == 0
    names = (*METRIC_NAMES, *GROUP_METRIC_NAMES)
    assert found["undefined"] == dict.fromkeys(names, "no rows")


def test_groups_of_one_class_each_have_no_grouped_auc():
    labels, logits = np.array([0, 0, 1, 1]), np.array([0.0, 0.0, 1.0, 1.0])
    found = compute_metrics(labels, logits, groups=np.array([1, 1, 2, 2]))
    assert found["gauc"] is None
    assert found["gauc_num_groups_left_out"] == 2
    reason = "no group with both classes"
    assert found["undefined"] == dict.fromkeys(GROUP_METRIC_NAMES, reason)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
def test_any_cut_into_batches_and_ranks_gives_the_metrics_of_the_whole(
    seed, num_ranks, grouped
):
    labels, logits, weights, groups = random_rows(200, seed)
    chosen = groups if grouped else None
    expected = compute_metrics(labels, logits, weights, chosen)
    random = np.random.default_rng(seed)
    states = [MetricState() for _ in range(num_ranks)]
    for batch in np.array_split(random.permutation(200), 9):
        part = groups[batch] if grouped else None
        states[random.integers(num_ranks)].update(
            labels[batch], logits[batch], weights[batch], part
        )
    whole = MetricState()
    for state in states:
        whole.merge(state)
    found = whole.compute()
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_state_without_rows_computes_nothing_and_merges():
    state = MetricState()
    assert state.compute()["undefined"]["auc"] == "no rows"
    other = MetricState()
    other.update(np.array([0, 1]), np.array([0.0, 1.0]))
    state.merge(other)
    assert state.compute()["auc"] == 1.0


def test_groups_in_some_updates_only_are_refused():
    state, other = MetricState(), MetricState()
    state.update(np.array([0, 1]), np.zeros(2), groups=np.ma.array([1, 2]))
    with pytest.raises(ValueError, match="Either all rows"):
        state.update(np.array([0, 1]), np.zeros(2))
    other.update(np.array([0, 1]), np.zeros(2))
    with pytest.raises(ValueError, match="Either all rows"):
        state.merge(other)


def test_weights_of_parts_keep_their_scale():
    """Within a part all weights are equal, which for it alone is as good as none."""
    labels, logits, _, groups = random_rows(300)
    weights = np.repeat([1.0, 0.25, 8.0], 100)
    expected = compute_metrics(labels, logits, weights, groups)
    for columns in ((weights,) * 3, (None, weights, weights)):
        state = MetricState()
        for part, column in zip(
            np.array_split(np.arange(300), 3), columns, strict=True
        ):
            chosen = None if column is None else column[part]
            state.update(labels[part], logits[part], chosen, groups[part])
        assert state.compute() == pytest.approx(expected, abs=1e-12)


def test_a_nan_in_one_part_leaves_the_whole_without_metrics():
    state, other = MetricState(), MetricState()
    state.update(np.array([0, 1]), np.array([0.0, np.nan]))
    other.update(np.array([0, 1, 1]), np.arange(3.0), np.array([1.0, 0.0, 2.0]))
    state.merge(other)
    found = state.compute()
    assert found["undefined"]["auc"] == "1 of 4 scores are NaN"
    assert found["num_examples"] == 5


def test_masked_groups_stay_masked_through_a_state():
    state = MetricState()
    state.update(
        np.array([0, 1]), np.arange(2.0), groups=np.ma.array([1, 1], mask=[False, True])
    )
    state.update(np.array([0, 1]), np.arange(2.0), groups=np.array([5, 5]))
    assert state.compute()["gauc_num_rows_left_out"] == 2


def test_merged_tables_are_the_table_of_all_rows():
    labels, logits, _, _ = random_rows()
    clicks = labels == 1
    whole = tabulate_scores(Rows(clicks, logits, None))
    parts = [
        tabulate_scores(Rows(clicks[part], logits[part], None))
        for part in (slice(0, 100), slice(100, 500))
    ]
    merged = merge_tables(parts)
    np.testing.assert_array_equal(merged.scores, whole.scores)
    np.testing.assert_array_equal(merged.positives, whole.positives)
    np.testing.assert_array_equal(merged.negatives, whole.negatives)
