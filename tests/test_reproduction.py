"""A run and its repetition beside each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from dlrm.commands.main import main
from dlrm.commands.reproduce import reproduction_config
from dlrm.config.compose import save_config
from dlrm.config.errors import ConfigError, RunError
from dlrm.reproduction import COMPARED, compare_manifests, compare_runs
from dlrm.run import Run, open_run


@pytest.fixture
def twin(trained: Run, tmp_path: Path) -> Run:
    """Return a copy of a run: a repetition that is the same to the bit."""
    shutil.copytree(trained.folder, tmp_path / "twin")
    return open_run(tmp_path / "twin")


def changed(run: Run, **entries: object) -> None:
    path = run.folder / "manifest.json"
    path.write_text(json.dumps({**run.manifest(), **entries}))


def test_a_manifest_holds_all_that_a_run_depends_on(trained: Run):
    manifest = trained.manifest()
    assert set(COMPARED) <= set(manifest)
    for name in ("data_fingerprint", "data_checksum", "config_checksum",
                 "source_checksum"):  # fmt: skip
        assert len(manifest[name]) == 64
    assert manifest["num_threads"] == 1
    assert manifest["world_size"] == 1


def test_the_same_run_is_identical(trained: Run, twin: Run):
    found = compare_runs(trained, twin)
    assert found.is_identical
    assert found.causes == ()
    assert found.num_compared >= 5


def test_times_of_the_log_do_not_count(trained: Run, twin: Run):
    path = twin.folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if "examples_per_second" in record:
            record["examples_per_second"] *= 2
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert compare_runs(trained, twin).is_identical


def test_predictions_packed_otherwise_are_the_same(trained: Run, twin: Run):
    path = twin.folder / "evaluation" / "test" / "predictions.parquet"
    before = path.read_bytes()
    pq.write_table(pq.read_table(path), path, compression="gzip")
    assert path.read_bytes() != before
    assert compare_runs(trained, twin).is_identical


def test_one_bit_of_one_weight_is_named(trained: Run, twin: Run):
    (path, *_) = sorted(twin.folder.glob("checkpoints/step_*/tables/*/*.safetensors"))
    tensors = load_file(path)
    tensors["weight"] = tensors["weight"].copy()
    tensors["weight"].view("uint32")[0, 0] ^= 1
    save_file(tensors, path)
    found = compare_runs(trained, twin)
    assert not found.is_identical
    name = path.relative_to(twin.folder).as_posix()
    assert found.differing == (f"{name}: other bytes",)


def test_another_prediction_names_its_column(trained: Run, twin: Run):
    path = twin.folder / "evaluation" / "test" / "predictions.parquet"
    table = pq.read_table(path)
    logits = table["logit"].to_numpy().copy()
    logits[3] = np.nextafter(logits[3], 9)
    place = table.column_names.index("logit")
    pq.write_table(table.set_column(place, "logit", pa.array(logits)), path)
    (line,) = compare_runs(trained, twin).differing
    assert line == "evaluation/test/predictions.parquet: other logit"


def test_another_loss_names_its_step(trained: Run, twin: Run):
    path = twin.folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    at = next(record for record in records if "loss" in record)
    at["loss"] += 1e-9
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (line,) = compare_runs(trained, twin).differing
    assert line == f"metrics.jsonl: first at step {at['step']}"


def test_a_missing_checkpoint_is_a_difference(trained: Run, twin: Run):
    (folder, *_) = sorted(twin.folder.glob("checkpoints/step_*"))
    shutil.rmtree(folder)
    found = compare_runs(trained, twin)
    assert found.differing
    assert all("only the first run has it" in line for line in found.differing)


@pytest.mark.parametrize(
    ("entry", "value", "line"),
    [
        ("num_threads", 2, "num_threads: 1 then, 2 now"),
        ("device", "cuda", "device: cpu then, cuda now"),
        ("world_size", 4, "world_size: 1 then, 4 now"),
        ("environment", {"MKL_CBWR": "AVX2"}, "MKL_CBWR: unset then, AVX2 now"),
        ("data_fingerprint", "f" * 64, "then, ffffffffffff now"),
        ("python", "3.99", "then, 3.99 now"),
    ],
)
def test_a_changed_cause_is_named(
    entry: str, value: object, line: str, trained: Run, twin: Run
):
    if entry == "environment":
        value = {**twin.manifest()["environment"], **value}  # type: ignore[dict-item]
    changed(twin, **{entry: value})
    found = compare_runs(trained, twin)
    assert found.is_identical
    (cause,) = found.causes
    if entry == "device":
        line = f"device: {trained.manifest()['device']} then, cuda now"
    assert cause.endswith(line)


def test_each_package_that_changed_is_named():
    old, new = {"packages": {"torch": "1", "a": "1"}}, {"packages": {"torch": "2"}}
    assert list(compare_manifests(old, new)) == [
        "packages.a: 1 then, unset now",
        "packages.torch: 1 then, 2 now",
    ]


def test_what_an_old_manifest_lacks_is_said():
    (line,) = compare_manifests({}, {"num_threads": 2})
    assert line == "num_threads: not recorded then, 2 now"


def test_a_repetition_stands_beside_the_run_and_not_where_a_stranger_says(
    twin: Run, tmp_path: Path
):
    config = twin.config
    config.output, config.run_name, config.resume = "/stranger", "run", True
    save_config(config, twin.folder / "config.yaml")
    found = reproduction_config(twin.folder, [])
    assert (Path(found.output), found.run_name) == (tmp_path, "twin-again")
    assert not found.resume
    (tmp_path / "twin-again").mkdir()
    assert reproduction_config(twin.folder, []).run_name == "twin-again-2"


def test_a_setting_of_the_run_cannot_be_changed(twin: Run):
    with pytest.raises(ConfigError, match=r"trainer.seed=1 was given with reproduce"):
        reproduction_config(twin.folder, ["trainer.seed=1"])


def test_a_folder_that_is_no_run_is_named(tmp_path: Path):
    with pytest.raises(RunError, match=r"reproduce must name a run directory"):
        reproduction_config(tmp_path, [])


@pytest.mark.slow
def test_a_run_is_repeated_to_the_bit(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = [f"reproduce={trained.folder}", f"output={tmp_path}"]
    assert main(["train", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "Identical to the bit" in printed
    assert "the same versions, settings, threads and machine as then" in printed
    assert compare_runs(trained, open_run(tmp_path / "run-again")).is_identical


@pytest.mark.slow
def test_other_data_is_named(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(trained.folder, tmp_path / "old")
    text = (tmp_path / "old" / "config.yaml").read_text()
    assert "num_rows: 4000" in text
    other = text.replace("num_rows: 4000", "num_rows: 4010")
    (tmp_path / "old" / "config.yaml").write_text(other)
    arguments = [f"reproduce={tmp_path / 'old'}", f"data.prepared={tmp_path}"]
    assert main(["train", *arguments]) == 1
    printed = capsys.readouterr().out
    assert "differs: config_checksum: " in printed
    assert "Not identical: " in printed
    assert "perhaps because of data_fingerprint: " in printed
