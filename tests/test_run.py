"""A run directory is whole, its own, and all it takes to go on."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dlrm import run as module
from dlrm.config.compose import load_config
from dlrm.config.data import SourceFormat
from dlrm.config.errors import RunError
from dlrm.config.schema import FeatureSchema
from dlrm.data.preparation.prepare import prepare_dataset
from dlrm.run import (
    Run,
    create_run,
    find_checkpoint,
    load_model,
    locked,
    new_folder,
    open_dataset,
    open_run,
    removed_unless_built,
)
from tests.runs import digest, tiny_config

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from types import SimpleNamespace
from dlrm.run import locked
with locked(SimpleNamespace(folder=Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def create(
    tmp_path: Path, prepared: Path, *extra: str, code: tuple[Path, ...] = ()
) -> Run:
    config = tiny_config(tmp_path, *extra, prepared=prepared)
    return create_run(config, dataset=prepare_dataset(config.data), code=[*code])


@pytest.fixture
def copied(tmp_path: Path, trained: Run) -> Run:
    """Return a copy of the trained run that a test may damage."""
    return open_run(Path(shutil.copytree(trained.folder, tmp_path / "copied")))


def test_a_run_that_was_created_opens_as_it_was(tmp_path: Path, prepared: Path):
    run = create(tmp_path, prepared, "trainer.seed=5", "optimizer.sparse.lr=0.3")
    opened = open_run(run.folder)
    assert dataclasses.asdict(opened.config) == dataclasses.asdict(run.config)
    assert opened.schema == run.schema
    assert (opened.config.trainer.seed, opened.config.optimizer.sparse.lr) == (5, 0.3)


def test_the_config_repeats_the_run(tmp_path: Path, prepared: Path):
    run = create(tmp_path, prepared, "run_name=first")
    config = load_config(run.folder / "config.yaml", ["run_name=second"])
    again = create_run(config, dataset=prepare_dataset(config.data), code=[])
    assert dataclasses.replace(again.config, run_name="first") == run.config
    assert again.schema == run.schema


def test_the_schema_has_the_widths_that_the_model_is_built_with(
    tmp_path: Path, prepared: Path
):
    run = create(tmp_path, prepared, "data.sparse_features.age.embedding_dim=2")
    widths = {f.name: f.feature.embedding_dim for f in run.schema.sparse}
    assert widths.pop("age") == 2
    assert set(widths.values()) == {4}


def test_the_run_holds_the_vocabularies_whole(tmp_path: Path, prepared: Path):
    run = create(tmp_path, prepared)
    dataset = Path(run.manifest()["dataset"])
    found = digest(run.folder / "vocabularies")
    assert found
    assert found == digest(dataset / "vocabularies")


def test_the_manifest_says_what_it_takes_to_repeat_the_run(
    tmp_path: Path, prepared: Path
):
    run = create(tmp_path, prepared, "trainer.seed=3", "trainer.device=cpu")
    manifest = run.manifest()
    dataset = Path(manifest["dataset"])
    schema = FeatureSchema.load(dataset)
    assert dataset.is_absolute()
    assert manifest["data_fingerprint"] == schema.fingerprint == run.schema.fingerprint
    assert manifest["packages"]["torch"] == importlib.metadata.version("torch")
    assert manifest["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert manifest["splits"]["train"]["num_rows"] == 3200
    assert manifest["command"] == sys.argv
    expected = {"seed": 3, "device": "cpu", "world_size": 1, "code": {}}
    assert {key: manifest[key] for key in expected} == expected
    assert {"created", "python", "platform", "git_revision", "num_threads"} <= set(
        manifest
    )


def test_a_users_own_code_is_copied_and_hashed(tmp_path: Path, prepared: Path):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    run = create(tmp_path, prepared, code=(file,))
    assert (run.folder / "code" / "mine.py").read_text() == "x = 1\n"
    expected = hashlib.sha256(b"x = 1\n").hexdigest()
    assert run.manifest()["code"] == {"mine.py": expected}


def test_a_name_that_is_taken_is_refused(tmp_path: Path, prepared: Path):
    run = create(tmp_path, prepared, "run_name=mine")
    before = digest(run.folder)
    with pytest.raises(RunError) as refused:
        create(tmp_path, prepared, "run_name=mine")
    assert f"run_name must name a new run, but {run.folder} exists" in str(
        refused.value
    )
    assert f"dlrm train run={run.folder}" in str(refused.value)
    assert digest(run.folder) == before


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path, prepared: Path):
    folders = {create(tmp_path, prepared).folder for _ in range(3)}
    assert len(folders) == 3
    assert all("-synthetic-dlrm" in folder.name for folder in folders)


def test_a_run_that_takes_the_folder_at_the_last_moment_is_let_live(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    config = tiny_config(tmp_path, prepared=prepared)
    dataset = prepare_dataset(config.data)
    other = tmp_path / "outputs" / "taken"
    names = iter([other, other, tmp_path / "outputs" / "next"])

    def late(config: object) -> Path:
        name = next(names)
        if name == other and not other.exists():
            other.mkdir(parents=True)
            (other / "config.yaml").write_text("of the other run")
        return name

    monkeypatch.setattr(module, "new_folder", late)
    run = create_run(config, dataset=dataset, code=[])
    assert run.folder.name == "next"
    assert (other / "config.yaml").read_text() == "of the other run"


def test_a_run_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_manifest", full_disk)
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path, prepared)
    assert list((tmp_path / "outputs").iterdir()) == []


@pytest.mark.parametrize("name", ["config.yaml", "schema.json", "manifest.json"])
def test_a_folder_that_is_no_run_is_refused_by_what_it_lacks(copied: Run, name: str):
    (copied.folder / name).unlink()
    with pytest.raises(RunError) as refused:
        open_run(copied.folder)
    assert f"must hold {name}, but {copied.folder} does not" in str(refused.value)


def test_a_damaged_manifest_is_named(copied: Run):
    (copied.folder / "manifest.json").write_text('{"created": ')
    with pytest.raises(RunError, match=r"manifest\.json must be"):
        copied.manifest()


@pytest.fixture
def holder(copied: Run) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the run, until the test is over."""
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(copied.folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_that_another_process_trains_is_refused(
    copied: Run, holder: subprocess.Popen[str]
):
    with (
        pytest.raises(RunError, match=r"another one is training .*copied"),
        locked(copied),
    ):
        pytest.fail("held twice")
    holder.kill()
    holder.wait()
    with locked(copied):
        pass


def test_a_run_is_free_again_when_its_training_ends(copied: Run):
    with pytest.raises(KeyError), locked(copied):
        raise KeyError
    refused = pytest.raises(RunError, match="One process at a time")
    with locked(copied), refused, locked(copied):
        pytest.fail("held twice")


def test_a_dataset_that_is_gone_is_prepared_anew(tmp_path: Path):
    run = create(tmp_path, tmp_path / "prepared")
    folder = Path(run.manifest()["dataset"])
    before = digest(folder)
    shutil.rmtree(folder)
    dataset = open_dataset(run)
    assert dataset.folder.resolve() == folder
    assert digest(folder) == before


def test_a_dataset_that_is_gone_with_its_source_is_named(copied: Run):
    table = dataclasses.replace(
        copied.config.data, format=SourceFormat.table, synthetic=None
    )
    run = dataclasses.replace(
        copied, config=dataclasses.replace(copied.config, data=table)
    )
    manifest = run.manifest() | {"dataset": "/gone"}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError) as refused:
        open_dataset(run)
    assert "/gone is gone, and: data.source must name" in str(refused.value)
    assert "dlrm.prepare(..., frame=frame)" in str(refused.value)


def test_another_dataset_than_the_runs_is_refused(
    tmp_path: Path, prepared: Path, copied: Run
):
    config = tiny_config(tmp_path, "data.synthetic.seed=1", prepared=prepared)
    other = prepare_dataset(config.data)
    manifest = copied.manifest()
    own, given = manifest["data_fingerprint"], FeatureSchema.load(other).fingerprint
    manifest["dataset"] = str(other)
    (copied.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError) as refused:
        open_dataset(copied)
    assert f"must have the run's fingerprint {own[:12]}, but {other} has" in str(
        refused.value
    )
    assert given[:12] in str(refused.value)


def test_checkpoints_go_by_best_last_and_their_own_names(tmp_path: Path, copied: Run):
    last = copied.checkpoints / "step_000000007"
    first = shutil.copytree(last, copied.checkpoints / "step_000000003")
    (copied.checkpoints / "best.json").write_text('{"checkpoint": "step_000000003"}')
    assert find_checkpoint(copied, "best") == first
    assert find_checkpoint(copied, "last") == last
    assert find_checkpoint(copied, "step_000000003") == first
    with pytest.raises(RunError) as refused:
        find_checkpoint(copied, "step_3")
    assert (
        "checkpoint must be best, last or one of step_000000003, step_000000007, but "
        "it is 'step_3'"
    ) in str(refused.value)


def test_a_run_without_checkpoints_says_so(tmp_path: Path, prepared: Path):
    run = create(tmp_path, prepared)
    for name in ("last", "step_000000001"):
        with pytest.raises(RunError, match="none yet"):
            find_checkpoint(run, name)
    with pytest.raises(RunError, match="has none"):
        find_checkpoint(run, "best")


def test_a_loaded_model_is_ready_to_predict(trained: Run):
    model = load_model(
        trained, checkpoint=find_checkpoint(trained, "best"), device=torch.device("cpu")
    )
    assert not any(module.training for module in model.modules())


def test_a_new_run_whose_model_cannot_be_built_is_removed(copied: Run):
    with pytest.raises(KeyError), removed_unless_built(copied):
        raise KeyError
    assert not copied.folder.exists()


def test_a_name_alone_decides_the_folder(tmp_path: Path, prepared: Path):
    config = tiny_config(tmp_path, "run_name=mine", prepared=prepared)
    assert new_folder(config) == tmp_path / "outputs" / "mine"
