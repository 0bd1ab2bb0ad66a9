"""What is refused late must leave nothing behind, and what can be refused early is."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dlrm.commands.evaluate import evaluate
from dlrm.commands.train import resume, train
from dlrm.config.compose import load_config
from dlrm.config.data import DataConfig, SourceFormat, Split
from dlrm.config.errors import ConfigError, InstallationError, RunError
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.data.storage.dataset import Dataset
from dlrm.run import Run, create_run, open_run
from dlrm.trainer import Trainer
from tests.runs import digest, tiny_config, tiny_overrides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.dense.name=Adamm", "Did you mean Adam"),
        ("optimizer.dense.options.momentm=0.9", "momentm"),
        ("logger.mlflow=true", "pip install mlflow"),
        ("model.top_mlp=[0]", "model.top_mlp"),
    ],
)
def test_what_need_not_wait_for_the_data_is_refused_before_it_is_prepared(
    tmp_path: Path, override: str, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises((ConfigError, InstallationError), match=message):
        train(*tiny_overrides(tmp_path, override))
    assert list(tmp_path.iterdir()) == []


def test_a_run_name_that_is_taken_is_refused_before_the_data_is_prepared(
    tmp_path: Path,
):
    (tmp_path / "outputs" / "mine").mkdir(parents=True)
    with pytest.raises(RunError, match="run_name must name a new run"):
        train(*tiny_overrides(tmp_path, "run_name=mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_a_model_that_cannot_be_built_leaves_no_run_directory(
    tmp_path: Path, trained: Run
):
    prepared = Path(trained.config.data.prepared)
    overrides = tiny_overrides(
        tmp_path, "run_name=mine", "tables.item.padding_idx=100000",
        prepared=prepared,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="tables.item.padding_idx"):
        train(*overrides)
    assert not (tmp_path / "outputs" / "mine").exists()


def test_early_stopping_without_a_validation_split_is_refused(tmp_path: Path):
    overrides = tiny_overrides(
        tmp_path, "trainer.early_stopping_patience=1", "data.split=random",
        "data.split_fractions=[0.9,0.0,0.1]",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="early_stopping_patience needs a validation"):
        train(*overrides)


def test_a_validation_split_of_one_class_is_refused_before_the_first_step(
    tmp_path: Path,
):
    frame = pd.DataFrame({"label": [0, 1] * 20, "x": range(40), "c": list("ab") * 20})
    frames = {"train": frame, "valid": frame[frame.label == 0]}
    data = DataConfig(
        name="mine",
        format=SourceFormat.table,
        prepared=str(tmp_path),
        split=Split.source,
        dense_features={"x": DenseFeature()},
        sparse_features={"c": SparseFeature()},
    )
    config = dataclasses.replace(tiny_config(tmp_path), data=data)
    folder = prepare_dataset(data, frame=frames)
    run = create_run(config, dataset=folder, code=[])
    with pytest.raises(ConfigError, match="auc needs.*0% of its rows.*log_loss"):
        Trainer(run, Dataset.open(folder), report=lambda line: None)


def test_a_missing_source_is_named_before_torch_is_imported(tmp_path: Path):
    code = (
        "import sys; from dlrm.commands.main import main; "
        "status = main(['train', 'data=criteo_kaggle', 'data.source=nowhere.txt']); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "nowhere.txt" in done.stderr


@pytest.mark.parametrize("name", ["test.csv", "valid.csv", ".x.csv"])
def test_results_of_a_file_never_replace_those_of_a_split(
    tmp_path: Path, trained: Run, name: str
):
    before = digest(trained.folder / "evaluation")
    with pytest.raises(ConfigError, match="name=monday"):
        evaluate(trained.folder, input=tmp_path / name)
    assert digest(trained.folder / "evaluation") == before


def test_a_longer_run_can_be_repeated_from_its_config(tmp_path: Path, trained: Run):
    prepared = Path(trained.config.data.prepared)
    run = train(*tiny_overrides(tmp_path, prepared=prepared), report=lambda line: None)
    resume(run.folder, "trainer.num_epochs=2", report=lambda line: None)
    config = load_config(run.folder / "config.yaml")
    assert config.trainer.num_epochs == 2
    assert dataclasses.asdict(open_run(run.folder).config) == dataclasses.asdict(config)


def test_a_run_that_exists_keeps_its_other_settings(trained: Run):
    with pytest.raises(ConfigError, match="keeps its settings, but model.top_mlp"):
        resume(trained.folder, "model.top_mlp=[4]")
