import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm.metrics.link import logits_from_probabilities
from dlrm.metrics.state import MetricState
from dlrm.metrics.summary import (
    GROUP_METRIC_NAMES,
    METRIC_NAMES,
    compute_metrics,
    compute_metrics_of_probabilities,
)
from tests.metrics import by_hand

CLOSE = 1e-9
LOGITS = {
    "tied": st.sampled_from([-3.0, -1.5, -0.0, 0.0, 0.7, 2.0]),
    "plain": st.floats(-12, 12, width=32),
    # A float32 probability of these is exactly 0 or 1.
    "saturated": st.sampled_from([-200.0, -110.0, -20.0, 18.0, 40.0, 300.0]),
}


@st.composite
def scored_rows(draw):
    kind = draw(st.sampled_from(list(LOGITS)))
    row = st.tuples(
        st.integers(0, 1),
        LOGITS[kind],
        st.sampled_from([0.0, 0.3, 1.0, 2.5]),
        st.integers(0, 4),
    )
    rows = draw(st.lists(row, max_size=40))
    both = [(0, 1.0, 1.0, 2), (1, -1.0, 1.0, 2)]
    labels, logits, weights, groups = zip(*(rows + both), strict=True)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    if not draw(st.booleans()):
        weights = np.ones(len(labels))
    return (
        np.array(labels),
        np.array(logits, dtype=dtype),
        np.array(weights),
        np.array(groups),
    )


def expected_of(labels, logits, weights, groups):
    expected = by_hand.metrics(labels, logits, weights)
    return expected | by_hand.grouped_metrics(labels, logits, weights, groups)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(scored_rows())
def test_every_metric_is_its_definition_on_many_more_rows(rows):
    assert_as_by_hand(compute_metrics(*rows), expected_of(*rows))


def assert_as_by_hand(found, expected):
    for name in (*METRIC_NAMES, *GROUP_METRIC_NAMES):
        if expected[name] is None:
            assert found[name] is None, name
            assert found["undefined"][name], name
            continue
        assert found[name] is not None, (name, found["undefined"])
        assert found[name] == pytest.approx(expected[name], rel=CLOSE, abs=CLOSE), name


@settings(max_examples=40, deadline=None)
@given(scored_rows())
def test_every_metric_is_its_definition(rows):
    assert_as_by_hand(compute_metrics(*rows), expected_of(*rows))


@settings(max_examples=25, deadline=None)
@given(scored_rows(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_any_order_and_any_cut_into_batches_and_ranks_gives_it(rows, num_ranks, random):
    expected = expected_of(*rows)
    order = random.sample(range(len(rows[0])), len(rows[0]))
    shuffled = tuple(column[order] for column in rows)
    assert_as_by_hand(compute_metrics(*shuffled), expected)

    ranks = [MetricState() for _ in range(num_ranks)]
    start = 0
    while start < len(order):
        end = start + random.randint(1, 12)
        batch = tuple(column[start:end] for column in shuffled)
        ranks[random.randrange(num_ranks)].update(*batch)
        start = end
    whole = MetricState()
    for rank in ranks:
        whole.merge(rank)
    found = whole.compute()
    assert_as_by_hand(found, expected)
    one = compute_metrics(*rows)
    assert found.keys() == one.keys()
    counts = [name for name in one if name.startswith(("num_", "gauc_num"))]
    assert [found[name] for name in counts] == [one[name] for name in counts]
    assert found.get("undefined") == one.get("undefined")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rare_clicks_of_many_tied_rows(dtype, weighted):
    random = np.random.default_rng(7)
    num_rows = 20_000
    logits = np.round(random.normal(-7, 2, num_rows), 2).astype(dtype)
    labels = (random.random(num_rows) < 0.001).astype(np.int64)
    assert 5 < labels.sum() < 40
    weights = random.exponential(size=num_rows) if weighted else np.ones(num_rows)
    groups = random.integers(0, 300, num_rows)
    found = compute_metrics(labels, logits, weights, groups)
    assert_as_by_hand(found, expected_of(labels, logits, weights, groups))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_metric_that_needs_two_and_keeps_the_others(label):
    random = np.random.default_rng(1)
    labels, logits = np.full(300, label), random.normal(size=300)
    found = compute_metrics(labels, logits, groups=random.integers(0, 9, 300))
    needs_two = {
        "auc", "pr_auc", "normalized_entropy", "rig", "top_decile_capture",
        "lift_top_decile", *GROUP_METRIC_NAMES,
    }  # fmt: skip
    needs_clicks = {"calibration", "recall_at_0_5", "f1_at_0_5"}
    without = needs_two | (needs_clicks if label == 0 else set())
    assert {name for name in found if found[name] is None} == without
    assert set(found["undefined"]) == without
    assert found["brier"] == pytest.approx(
        np.mean([(by_hand.sigmoid(z) - label) ** 2 for z in logits]), abs=1e-12
    )
    assert found["brier_uncertainty"] == 0
    assert found["brier_resolution"] == pytest.approx(0, abs=1e-30)


@settings(max_examples=25, deadline=None)
@given(scored_rows())
def test_bare_probabilities_give_the_metrics_of_their_logits_and_are_counted(rows):
    labels, logits, weights, groups = rows
    probabilities = np.array([by_hand.sigmoid(float(z)) for z in logits])
    probabilities = probabilities.astype(logits.dtype)
    found = compute_metrics_of_probabilities(labels, probabilities, weights, groups)
    wide = probabilities.astype(np.float64)
    clipped = np.clip(wide, 2.0**-52, 1 - 2.0**-52)
    counted = weights > 0
    assert found["num_clipped"] == np.count_nonzero((clipped != wide)[counted])
    losses = np.where(labels == 1, -np.log(clipped), -np.log1p(-clipped))
    loss = float(np.sum(losses * weights) / weights.sum())
    assert found["log_loss"] == pytest.approx(loss, rel=1e-12)
    unclipped = logits_from_probabilities(probabilities)
    expected = by_hand.grouped_metrics(
        labels, np.clip(unclipped, -1e30, 1e30), weights, groups
    )
    expected |= by_hand.metrics(labels, np.clip(unclipped, -800, 800), weights)
    rate = float(np.sum(labels * weights) / weights.sum())
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    expected |= {
        "log_loss": loss,
        "normalized_entropy": loss / entropy,
        "rig": 1 - loss / entropy,
    }
    assert_as_by_hand(found, expected)
