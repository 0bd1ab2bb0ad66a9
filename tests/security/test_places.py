"""Paths in a folder from a stranger do not lead out of it, for reading or writing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from dlrm.checkpoints.files import quote_name, state_text
from dlrm.checkpoints.load import read_state
from dlrm.checkpoints.rotation import best_checkpoint
from dlrm.commands.code import check_code
from dlrm.config.errors import ConfigError, DatasetError, RunError, UserError
from dlrm.data.storage.dataset import Dataset
from dlrm.data.storage.manifest import Manifest
from dlrm.data.transforms.vocabulary import vocabulary_path
from dlrm.run import Run, find_checkpoint, open_dataset, open_run
from tests.security.hostile import copied

OUTSIDE = ("../outside", "/etc/passwd", "a/../../outside", "..")


@pytest.fixture
def dataset(prepared: Path, tmp_path: Path) -> Path:
    (own,) = [path for path in prepared.iterdir() if (path / "files.json").is_file()][
        :1
    ]
    shutil.copytree(own, tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", ["files", "splits"])
def test_a_dataset_lists_no_file_outside(
    key: str, name: str, dataset: Path, tmp_path: Path
):
    content = json.loads((dataset / "files.json").read_text())
    value = {"size": 1, "crc32": 0} if key == "files" else [1]
    content[key][name] = value
    (dataset / "files.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="outside the dataset"):
        Manifest.load(dataset)


@pytest.mark.parametrize("name", ["train", "schema.json", "deep/er"])
def test_a_link_out_of_a_dataset_is_refused(name: str, dataset: Path, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    place = dataset / name
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / "outside")
    with pytest.raises(DatasetError, match=rf"{name} is a link that leads out"):
        Dataset.open(dataset)


def test_a_link_within_a_dataset_and_one_to_it_are_well(dataset: Path, tmp_path: Path):
    moved = dataset / "train" / "side" / "moved"
    part = dataset / "train" / "side" / "part_00000.parquet"
    part.rename(moved)
    part.symlink_to(moved.name)
    (tmp_path / "link").symlink_to(dataset)
    assert Dataset.open(tmp_path / "link").split("train").num_rows


@pytest.mark.parametrize(
    "name",
    [".config.yaml", ".manifest.json", ".lock", "metrics.jsonl", "evaluation/test",
     "checkpoints/step_000000001"],
)  # fmt: skip
def test_a_link_out_of_a_run_is_refused_before_anything_is_written(
    name: str, trained: Run, tmp_path: Path
):
    run, victim = copied(trained, tmp_path), tmp_path / "victim"
    victim.write_text("precious")
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(victim)
    with pytest.raises(RunError, match="is a link that leads out of it"):
        open_run(run)
    assert victim.read_text() == "precious"


def test_a_ring_of_links_is_refused(trained: Run, tmp_path: Path):
    run = copied(trained, tmp_path)
    (run / "ring").symlink_to("ring")
    with pytest.raises(RunError, match="ring is a link"):
        open_run(run)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_checkpoint_lists_no_file_outside(name: str, trained: Run, tmp_path: Path):
    folder = find_checkpoint(open_run(copied(trained, tmp_path)), "last")
    state = json.loads((folder / "state.json").read_text())
    del state["checksum"]
    state["files"] = {name: "crc32:00000000"}
    state["sizes"] = {}
    (folder / "state.json").write_text(state_text(state))
    with pytest.raises(RunError, match="missing or damaged"):
        read_state(folder)


@pytest.mark.parametrize("name", ["../../../evil", "/tmp/evil", "..", ""])
def test_the_best_checkpoint_is_one_of_the_runs(
    name: str, trained: Run, tmp_path: Path
):
    run = open_run(copied(trained, tmp_path))
    (run.checkpoints / "best.json").write_text(json.dumps({"checkpoint": name}))
    assert best_checkpoint(run.checkpoints).parent == run.checkpoints


@pytest.mark.parametrize(
    "name", ["..", "../../evil", "/etc/passwd", ".", "a/b", "..\\x"]
)
def test_a_table_of_any_name_stays_in_its_folder(name: str, tmp_path: Path):
    root = str(tmp_path)
    for path in (
        tmp_path / "tables" / quote_name(name),
        vocabulary_path(tmp_path, name),
    ):
        inside = os.path.normpath(path)
        assert inside.startswith(root + os.sep)
        assert inside.count(os.sep) == root.count(os.sep) + 2


def test_a_strangers_run_prepares_nothing_where_other_things_lie(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    home = tmp_path.parent / f"{tmp_path.name}-home"
    (home / ".tmp-mine").mkdir(parents=True)
    (home / "letters.txt").write_text("precious")
    run = open_run(copied(trained, tmp_path))
    data = dataclasses.replace(run.config.data, prepared=str(home))
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    manifest = {**run.manifest(), "dataset": "/gone"}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="nor a folder of prepared datasets"):
        open_dataset(run)
    assert sorted(path.name for path in home.iterdir()) == [".tmp-mine", "letters.txt"]


def test_code_in_a_run_is_not_run_and_its_name_is_quoted(trained: Run, tmp_path: Path):
    run = copied(trained, tmp_path)
    (run / "code").mkdir()
    name = "a b;touch proof.py"
    (run / "code" / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigError) as refused:
        check_code(run, given=False)
    assert f"--code '{run / 'code' / name}'" in str(refused.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    ["schema.json", "manifest.json", "contract.json", "findings.json",
     "checkpoints/best.json"],
)  # fmt: skip
def test_json_nested_without_end_is_an_error_in_words(
    name: str, trained: Run, tmp_path: Path
):
    from dlrm.data.contract.contract import Contract
    from dlrm.data.contract.findings import load_findings

    run = copied(trained, tmp_path)
    (run / name).write_text("[" * 200_000)

    def read_all() -> None:
        opened = open_run(run)
        opened.manifest()
        load_findings(run)
        Contract.load(run)
        find_checkpoint(opened, "best")

    with pytest.raises(UserError, match=name.rpartition("/")[2]):
        read_all()
