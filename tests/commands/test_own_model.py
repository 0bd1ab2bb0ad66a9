"""A model outside the package: one file that trains, evaluates and predicts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dlrm.commands.main import main
from tests.runs import CLICKS, ClicksRun, clicks_overrides

MODEL = '''
"""Products of neighbouring fields."""

from dataclasses import dataclass

import torch
from torch import nn

from dlrm.config.checks import require
from dlrm.config.model import DeepModelConfig, register_model
from dlrm.layers.mlp import MLP
from dlrm.models.inputs import FieldVectors


@dataclass(kw_only=True, slots=True)
class NeighboursConfig(DeepModelConfig):
    distance: int = 1

    def __post_init__(self):
        DeepModelConfig.__post_init__(self)
        require(self.distance >= 1, "model.distance", ">= 1", self.distance)


@register_model("own_neighbours", NeighboursConfig)
class Neighbours(nn.Module):
    def __init__(self, config, schema):
        super().__init__()
        self.fields = FieldVectors(schema, embedding_dim=config.embedding_dim)
        self.distance = config.distance
        num_products = self.fields.num_fields - config.distance
        self.top_mlp = MLP(
            num_products * config.embedding_dim, config.top_mlp, output_dim=1
        )

    def forward(self, batch):
        vectors = self.fields(batch)
        products = vectors[:, self.distance :] * vectors[:, : -self.distance]
        return self.top_mlp(products.flatten(1))
'''
CODE = ("--code", "neighbours.py")
PRESET = "name: own_neighbours\nembedding_dim: 4\ntop_mlp: [8]\ndistance: 2\n"


@pytest.fixture
def overrides(workdir: Path, clicks: ClicksRun) -> list[str]:
    """Return settings of a run of the model, whose file is in the current directory."""
    (workdir / "neighbours.py").write_text(MODEL)
    shutil.copytree(clicks.folder / "conf", workdir / "conf")
    (workdir / "conf" / "model").mkdir(exist_ok=True)
    (workdir / "conf" / "model" / "neighbours.yaml").write_text(PRESET)
    settings = [
        text for text in clicks_overrides(workdir) if not text.startswith("model.")
    ]
    return ["model=neighbours", *settings, "run_name=mine", "trainer.num_epochs=2"]


def test_one_file_is_trained_evaluated_and_asked_for_scores(
    workdir: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]
):
    assert main(["train", *CODE, *overrides]) == 0
    run = workdir / "outputs" / "mine"
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert 0.5 < metrics["auc"] <= 1
    assert "distance: 2" in (run / "config.yaml").read_text()

    line = ["predict", f"run={run}", f"input={CLICKS}", "output=scores.csv"]
    capsys.readouterr()
    assert main(line) == 2
    assert "uses code of its own" in capsys.readouterr().err
    assert not Path("scores.csv").exists()
    assert main([*line, *CODE]) == 0
    scores = pd.read_csv("scores.csv")
    assert len(scores) == len(pd.read_csv(CLICKS))
    assert scores["probability"].between(0, 1).all()

    assert main(["evaluate", f"run={run}", "split=valid", *CODE]) == 0
    assert (run / "evaluation" / "valid" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.typo=1", "model.typo is not a setting"),
        ("model.distanse=1", "Did you mean model.distance?"),
        ("model.distance=0", "model.distance must be >= 1, but it is 0"),
        ("model.distance=near", "near"),
    ],
)
def test_its_settings_are_checked_before_anything_is_made(
    workdir: Path,
    overrides: list[str],
    capsys: pytest.CaptureFixture[str],
    setting: str,
    message: str,
):
    assert main(["train", *CODE, *overrides, setting]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("dlrm train: error: ")
    assert message in printed
    assert not (workdir / "outputs").exists()
