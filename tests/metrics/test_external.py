"""Metrics of parts that are sorted on disk are those of all rows at once."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from dlrm.metrics import external, spill
from dlrm.metrics.external import SpilledMetricState, compute_metrics_of_parts
from dlrm.metrics.summary import METRIC_NAMES, compute_metrics

MEMORY = external.LEAST_MEMORY


@pytest.fixture
def small_parts(monkeypatch):
    """Sort 50 rows at a time, merge 3 runs, and hold 4 entries of each."""
    monkeypatch.setattr(external, "_BYTES_PER_ROW", MEMORY // 50)
    monkeypatch.setattr(spill, "_MOST_RUNS", 3)
    monkeypatch.setattr(spill, "_FEWEST_ENTRIES", 4)
    monkeypatch.setattr(spill, "_BYTES_PER_MERGED_ENTRY", MEMORY)


def rows(random, *, num_rows=700, decimals=1, dtype=np.float32):
    labels = (random.random(num_rows) < 0.3).astype(np.int8)
    logits = np.round(random.normal(size=num_rows) + labels, decimals).astype(dtype)
    return labels, logits, random.choice([0.0, 0.25, 1.0, 2.5], num_rows)


def cut(columns, edges):
    columns = [column for column in columns if column is not None]
    pieces = [np.split(column, edges) for column in columns]
    return list(zip(*pieces, strict=True))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_spilled_metrics_are_those_of_all_rows_at_once(
    tmp_path, dtype, decimals, weighted
):
    labels, logits, weights = rows(
        np.random.default_rng(decimals), decimals=decimals, dtype=dtype
    )
    weights = weights if weighted else None
    found = compute_metrics_of_parts(
        cut((labels, logits, weights), [10, 10, 333, 600]),
        memory_bytes=MEMORY,
        folder=tmp_path,
    )
    expected = compute_metrics(labels, logits, weights)
    assert (
        set(found) == set(expected) == {*METRIC_NAMES, "num_examples", "num_positives"}
    )
    assert found == pytest.approx(expected, abs=1e-12)
    z = logits.astype(np.float64)
    assert found["auc"] == pytest.approx(
        roc_auc_score(labels, z, sample_weight=weights), abs=1e-12
    )
    assert found["pr_auc"] == pytest.approx(
        average_precision_score(labels, z, sample_weight=weights), abs=1e-12
    )
    probabilities = 1 / (1 + np.exp(-z))
    assert found["log_loss"] == pytest.approx(
        log_loss(labels, probabilities, sample_weight=weights), abs=1e-12
    )
    assert not list(tmp_path.iterdir()), "the temporary folder was left behind"


@pytest.mark.usefixtures("small_parts")
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([-40.0, -1.0, -0.0, 0.0, 0.3, 2.0, 800.0]),
            st.sampled_from([0.0, 0.5, 3.0]),
        ),
        max_size=120,
    ),
    st.lists(st.integers(0, 120), max_size=5).map(sorted),
    st.booleans(),
)
def test_any_cut_and_any_order_give_the_same_metrics(found_rows, edges, weighted):
    columns = np.array(found_rows).reshape(-1, 3).T
    labels, logits, weights = columns[0], columns[1].astype(np.float32), columns[2]
    chosen = weights if weighted else None
    found = compute_metrics_of_parts(
        cut((labels, logits, chosen), edges)[::-1], memory_bytes=MEMORY
    )
    expected = compute_metrics(labels, logits, chosen)
    assert found.pop("undefined", {}) == expected.pop("undefined", {})
    assert found == pytest.approx(expected, abs=1e-11)


def test_parts_of_one_weight_each_keep_their_weights():
    labels, logits, _ = rows(np.random.default_rng(5))
    weights = np.repeat([0.5, 2.0], 350)
    found = compute_metrics_of_parts(
        cut((labels, logits, weights), [350]), memory_bytes=MEMORY
    )
    expected = roc_auc_score(labels, logits, sample_weight=weights)
    assert found["auc"] == pytest.approx(expected, abs=1e-12)


def test_nan_scores_in_any_part_leave_no_metric_a_value():
    parts = [
        (np.array([0, 1]), np.array([1.0, np.nan])),
        (np.array([0, 1]), np.array([1.0, 2.0])),
    ]
    found = compute_metrics_of_parts(parts, memory_bytes=MEMORY)
    assert found["auc"] is None
    assert found["undefined"]["log_loss"] == "1 of 4 scores are NaN"
    assert (found["num_examples"], found["num_positives"]) == (4, 2)


def test_no_parts_have_no_metrics():
    found = compute_metrics_of_parts([], memory_bytes=MEMORY)
    assert found["undefined"]["auc"] == "no rows"
    assert found["auc"] is None


def test_computing_between_updates_counts_all_rows_so_far():
    labels, logits, _ = rows(np.random.default_rng(1))
    with SpilledMetricState(memory_bytes=MEMORY) as state:
        state.update(labels[:300], logits[:300])
        assert state.compute()["auc"] == pytest.approx(
            roc_auc_score(labels[:300], logits[:300]), abs=1e-12
        )
        state.update(labels[300:], logits[300:])
        assert state.compute()["auc"] == pytest.approx(
            roc_auc_score(labels, logits), abs=1e-12
        )


def test_misfits_and_too_little_memory_are_refused():
    with SpilledMetricState(memory_bytes=MEMORY) as state:
        with pytest.raises(ValueError, match=r"shapes are \(2,\), \(3,\)"):
            state.update(np.zeros(2), np.zeros(3))
        state.update(np.array([0, 2]), np.zeros(2))
        with pytest.raises(ValueError, match="row 1 has 2"):
            state.compute()
    with pytest.raises(ValueError, match=r"at least 16777216 .* it is 1000"):
        SpilledMetricState(memory_bytes=1000)


def test_predictions_of_a_parquet_file_are_measured_batch_by_batch(tmp_path):
    labels, logits, weights = rows(np.random.default_rng(2))
    columns = {"label": labels, "logit": logits, "weight": weights}
    pq.write_table(pa.table(columns), tmp_path / "predictions.parquet")

    def parts():
        file = pq.ParquetFile(tmp_path / "predictions.parquet")
        for batch in file.iter_batches(batch_size=100, columns=list(columns)):
            yield tuple(column.to_numpy() for column in batch.columns)

    found = compute_metrics_of_parts(parts(), memory_bytes=MEMORY)
    expected = roc_auc_score(labels, logits, sample_weight=weights)
    assert found["auc"] == pytest.approx(expected, abs=1e-12)


_STREAM = """
import sys
import numpy as np
from dlrm.metrics.external import compute_metrics_of_parts

def peak():
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def parts():
    random = np.random.default_rng(0)
    for _ in range(20):
        labels = random.random(250_000) < 0.03
        yield labels, (random.normal(size=250_000) + labels).astype(np.float32)

next(parts())
before = peak()
found = compute_metrics_of_parts(parts(), memory_bytes=int(sys.argv[1]))
print(found["auc"], (peak() - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_five_million_rows_stay_within_their_memory():
    memory = 1 << 25
    done = subprocess.run(
        [sys.executable, "-c", _STREAM, str(memory)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    auc, grown = done.stdout.split()
    # The rows alone are 25 MB, and sorted at once they take some 500.
    assert int(grown) < memory
    random = np.random.default_rng(0)
    labels, scores = [], []
    for _ in range(20):
        labels.append(random.random(250_000) < 0.03)
        drawn = random.normal(size=250_000) + labels[-1]
        scores.append(drawn.astype(np.float32))
    expected = roc_auc_score(np.concatenate(labels), np.concatenate(scores))
    assert float(auc) == pytest.approx(expected, abs=1e-12)
