"""Permutation importance finds the causes, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from dlrm.data.loading.collate import collate
from dlrm.data.storage.feature_values import feature_places
from dlrm.explanation.costs import feature_costs
from dlrm.explanation.importance import prune_list
from dlrm.explanation.importance_of_run import importance_of_run
from dlrm.explanation.sample import draw_sample
from dlrm.metrics.permuted import draw_donors
from dlrm.run import Run, find_checkpoint, load_model, open_dataset
from tests.explanation.planted import REAL, USELESS, log, train_planted


def importance(run: Run, **given: int) -> dict:
    settings = {"num_rows": 100_000, "repeats": 3, "seed": 0, **given}
    return importance_of_run(
        run, find_checkpoint(run, "best"), split="test", **settings
    )


def by_name(found: dict) -> dict:
    return {entry["feature"]: entry for entry in found["features"]}


@pytest.fixture(scope="module")
def found(planted: Run) -> dict:
    return importance(planted)


def test_causes_stand_first_and_useless_features_cover_zero(found: dict):
    entries = by_name(found)
    assert {entry["feature"] for entry in found["features"][:3]} == set(REAL)
    for name in REAL:
        for metric in ("log_loss", "auc"):
            assert entries[name][metric]["low"] > 0
    for name in USELESS:
        for metric in ("log_loss", "auc"):
            assert entries[name][metric]["covers_zero"]


def test_numbers_are_those_of_the_model_on_exchanged_columns(planted: Run, found: dict):
    """Exchange the columns of a batch by hand, and score it with scikit-learn."""
    rows = open_dataset(planted).split("test")
    batch_of = lambda r: collate(r, np.arange(len(r)), planted.schema)  # noqa: E731
    encoded = rows.gather(np.arange(rows.num_rows))
    model = load_model(
        planted,
        checkpoint=find_checkpoint(planted, "best"),
        device=torch.device("cpu"),
    )

    def probabilities(batch) -> np.ndarray:
        with torch.no_grad():
            return torch.sigmoid(model(batch).double()).squeeze(1).numpy()

    labels, base = encoded.labels, probabilities(batch_of(encoded))
    assert found["log_loss"] == pytest.approx(log_loss(labels, base), abs=1e-6)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, base), abs=1e-6)
    column = [fitted.name for fitted in planted.schema.dense].index("x")
    losses, areas = [], []
    for donor in draw_donors(len(labels), repeats=3, seed=0):
        batch = batch_of(encoded)
        batch.dense[:, column] = batch.dense[torch.from_numpy(donor), column]
        changed = probabilities(batch)
        losses.append(log_loss(labels, changed) - log_loss(labels, base))
        areas.append(roc_auc_score(labels, base) - roc_auc_score(labels, changed))
    entry = by_name(found)["x"]
    assert entry["log_loss"]["change"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert entry["auc"]["change"] == pytest.approx(np.mean(areas), abs=1e-5)


def test_rows_are_drawn_and_said_and_groups_are_counted(planted: Run, found: dict):
    total = planted.schema.splits["test"].num_rows
    side = open_dataset(planted).side("test")
    assert (found["rows"], found["split_rows"]) == (total, total)
    assert found["clustered_by"] == "user"
    assert found["num_clusters"] == len(set(side["user"].to_pylist()))
    few = importance(planted, num_rows=200, repeats=1)
    assert (few["rows"], few["split_rows"], few["repeats"]) == (200, total, 1)
    assert few == importance(planted, num_rows=200, repeats=1)
    assert few != importance(planted, num_rows=200, repeats=1, seed=5)


def test_costs_are_rows_times_width_with_the_optimizers_state(planted: Run):
    rows = open_dataset(planted).split("test").slice(0, 50)
    costs = feature_costs(planted, feature_places(planted.schema), rows)
    (twin,) = costs["twin"].tables
    # Row-wise Adagrad keeps one float32 a row beside the row's one weight.
    assert (twin.rows, twin.dim, twin.dtype) == (600, 1, "float32")
    assert (twin.weight_bytes, twin.state_bytes) == (600 * 4, 600 * 4)
    assert costs["twin"].freed == 600 * 8
    assert costs["twin"].lookups == 1
    assert costs["tags"].lookups == pytest.approx(rows.bag_lengths.sum() / 50)
    assert (costs["x"].total, costs["x"].lookups) == (0, 0)


def entry(name: str, low: float, high: float, freed: int) -> dict:
    change = (low + high) / 2
    return {
        "feature": name,
        "log_loss": {
            "change": change,
            "low": low,
            "high": high,
            "covers_zero": low <= 0 <= high,
        },
        "freed_bytes": freed,
        "gain_per_mib": change / (freed / 2**20) if freed else None,
    }


def test_what_shows_no_gain_goes_first_and_then_what_gains_least_for_its_bytes():
    entries = [
        entry("dear", 0.1, 0.2, 2**30),
        entry("cheap", 0.1, 0.2, 2**10),
        entry("free", 0.1, 0.2, 0),
        entry("small noise", -0.1, 0.1, 10),
        entry("large noise", -0.1, 0.1, 1000),
        entry("harmful", -0.2, -0.1, 0),
        {**entry("unknown", 0, 0, 5), "log_loss": None},
    ]
    found = [(e["feature"], e["reason"]) for e in prune_list(entries)]
    nothing = "no gain shown: the interval covers 0"
    assert found == [
        ("large noise", nothing),
        ("small noise", nothing),
        ("harmful", "the model is better without its values"),
        ("dear", "least gain per MiB"),
        ("cheap", "least gain per MiB"),
    ]


def test_a_sample_weighs_thinned_rows_as_an_evaluation_does(tmp_path: Path):
    rows = log(1200)
    rows["keep"] = np.where(rows["x"] > 0, 0.25, 0.5)
    run = train_planted(
        tmp_path, rows, "model=logistic_regression", keep_rate_column="keep",
        sampled_splits=["train", "valid", "test"],
    )  # fmt: skip
    sample = draw_sample(
        run,
        open_dataset(run),
        "test",
        checkpoint=find_checkpoint(run, "best"),
        num_rows=50,
        seed=0,
    )
    raw = np.zeros(len(sample.rows), dtype=np.float32)
    keep = open_dataset(run).side("test")["keep"].to_numpy()[sample.row_ids]
    keep = keep.astype(np.float64)
    wanted = np.where(sample.rows.labels > 0, 1, 1 / keep)
    assert sample.weights == pytest.approx(wanted)
    assert sample.judged(raw).logits == pytest.approx(np.log(keep))


@pytest.mark.slow
def test_of_200_useless_features_90_to_99_percent_cover_zero(tmp_path: Path):
    rows = log(10_000, num_noise=200, seed=3)
    run = train_planted(tmp_path, rows, "model=logistic_regression")
    entries = by_name(importance(run, repeats=5))
    for metric in ("log_loss", "auc"):
        intervals = [entries[f"n{i}"][metric] for i in range(200)]
        # The model has learned a weight for each, or the test would say nothing.
        assert all(own["standard_error"] > 0 for own in intervals)
        share = np.mean([own["covers_zero"] for own in intervals])
        assert 0.90 <= share <= 0.99
