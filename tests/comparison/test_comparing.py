"""What comparison.json holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from dlrm.comparison.comparing import COMPARED, Sampling, compare
from dlrm.comparison.matching import Model, match_models
from dlrm.comparison.sources import ColumnNames
from dlrm.evaluation.slices.dimensions import Dimension, SliceName
from tests.comparison.files import NUM_ROWS, frame

FEW = Sampling(num_draws=30)


def model(folder: Path, name: str, *, skill: float, seeds: range) -> Model:
    paths = []
    for seed in seeds:
        path = folder / f"{name}-{seed}.parquet"
        frame(skill=skill, seed=seed).to_parquet(path)
        paths.append(path)
    return Model(name, tuple(paths))


def test_metrics_are_means_over_seeds_and_differences_are_theirs(tmp_path: Path):
    models = [
        model(tmp_path, "old", skill=0.5, seeds=range(2)),
        model(tmp_path, "new", skill=1.0, seeds=range(5, 8)),
    ]
    names = ColumnNames(group="user")
    result = compare(match_models(models, names, split="test"), sampling=FEW)
    labels = frame()["label"]
    means = {}
    for skill, seeds, name in ((0.5, range(2), "old"), (1.0, range(5, 8), "new")):
        frames = [frame(skill=skill, seed=seed) for seed in seeds]
        means[name] = {
            "auc": np.mean([roc_auc_score(labels, f["logit"]) for f in frames]),
            "log_loss": np.mean([log_loss(labels, f["probability"]) for f in frames]),
        }
    (entry,) = result["comparisons"]
    assert entry["candidate"] == "new"
    for name in ("auc", "log_loss"):
        found = entry["differences"][name]
        assert found["baseline"] == pytest.approx(means["old"][name])
        assert found["candidate"] == pytest.approx(means["new"][name])
        expected = means["new"][name] - means["old"][name]
        assert found["difference"] == pytest.approx(expected)
        assert found["low"] < found["difference"] < found["high"]
    assert list(entry["differences"]) == list(COMPARED)
    assert entry["differences"]["auc"]["method"] == "Obuchowski"
    assert set(entry["differences"]["ece_debiased"]) == {
        "baseline", "candidate", "difference",
    }  # fmt: skip
    assert [len(m["seeds"]) for m in result["models"]] == [2, 3]
    assert [m["role"] for m in result["models"]] == ["baseline", "candidate"]
    assert result["num_examples"] == NUM_ROWS
    assert result["num_positives"] == labels.sum()
    assert result["num_groups"] == frame()["user"].nunique()
    json.dumps(result, allow_nan=False)


def test_p_values_of_several_candidates_are_holms(tmp_path: Path):
    models = [
        model(tmp_path, "old", skill=0.5, seeds=range(1)),
        model(tmp_path, "same", skill=0.55, seeds=range(4, 5)),
        model(tmp_path, "new", skill=1.0, seeds=range(5, 6)),
    ]
    matched = match_models(models, ColumnNames(), split="test")
    first, second = (
        entry["differences"]["auc"]
        for entry in compare(matched, sampling=FEW)["comparisons"]
    )
    low, high = sorted([first, second], key=lambda found: found["p_value"])
    assert low["p_adjusted"] == pytest.approx(min(1.0, 2 * low["p_value"]))
    assert high["p_adjusted"] == max(low["p_adjusted"], high["p_value"])


def test_slices_are_compared_on_their_own_rows(tmp_path: Path):
    models = [
        model(tmp_path, "old", skill=0.5, seeds=range(1)),
        model(tmp_path, "new", skill=1.0, seeds=range(5, 6)),
    ]
    matched = match_models(models, ColumnNames(), split="test")
    devices = frame()["device"].to_numpy()
    codes = np.where(devices == "tv", 1, 0)
    # The last slice has one row, and nothing can be said of it.
    codes[0] = 2
    names = tuple(SliceName(text, (text,)) for text in ("phone", "tv", "first"))
    cut = Dimension("device", "column", codes, names)
    (entry,) = compare(matched, dimensions=[cut], sampling=FEW)["comparisons"]
    (slices,) = entry["slices"]
    assert slices["key"] == "device"
    assert [part["name"] for part in slices["slices"]] == ["phone", "tv", "first"]
    assert sum(part["rows"] for part in slices["slices"]) == NUM_ROWS
    inside = codes == 1
    aucs = [
        roc_auc_score(frame()["label"][inside], f["logit"][inside])
        for f in (frame(skill=0.5, seed=0), frame(skill=1.0, seed=5))
    ]
    found = slices["slices"][1]["differences"]
    assert found["auc"]["difference"] == pytest.approx(aucs[1] - aucs[0])
    assert set(found) == {"auc", "log_loss", "calibration"}
    p_values = [part["differences"].get("auc") for part in slices["slices"]]
    smallest = min(p["p_value"] for p in p_values if p)
    assert min(p["p_adjusted"] for p in p_values if p) == pytest.approx(
        min(1.0, 2 * smallest)
    )
    assert slices["slices"][2]["differences"] == {}
    assert slices["slices"][2]["undefined"]["auc"] == "one class"


def test_scores_without_probabilities_are_compared_by_order(tmp_path: Path):
    path = tmp_path / "ranker.parquet"
    content = frame(seed=3).assign(score=lambda rows: 100 * rows["logit"])
    content[["row", "label", "score"]].to_parquet(path)
    models = [model(tmp_path, "old", skill=0.5, seeds=range(1)), Model("r", (path,))]
    matched = match_models(models, ColumnNames(), split="test")
    result = compare(matched, sampling=FEW)
    (entry,) = result["comparisons"]
    assert list(entry["differences"]) == ["auc", "pr_auc"]
    expected = roc_auc_score(content["label"], content["score"])
    assert result["models"][1]["metrics"]["auc"] == pytest.approx(expected)
    assert result["models"][1]["metrics"]["log_loss"] is None
