"""What befalls a run from outside: disks, clocks, memory, lost files, bad numbers."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlrm.checkpoints import save
from dlrm.checkpoints.rotation import list_checkpoints
from dlrm.commands.main import main
from dlrm.config.durable import writing_to
from dlrm.config.errors import TrainingError, WriteError
from dlrm.embeddings.state import table_states
from dlrm.interrupts import StopSignals
from dlrm.metric_log import read_metrics
from dlrm.run import Run
from tests.runs import digest, tiny_overrides
from tests.test_trainer import again, losses, start

OFTEN = (
    "trainer.num_epochs=2", "trainer.checkpoint_every=2", "trainer.keep_checkpoints=9",
)  # fmt: skip


def names(run: Run) -> list[str]:
    return [path.name for path in list_checkpoints(run.checkpoints)]


def test_checkpoints_beside_training_are_those_between_steps_to_the_bit(
    tmp_path: Path, prepared: Path
):
    digests, logs = [], []
    for name in ("true", "false"):
        run, trainer, lines = start(
            tmp_path, prepared, *OFTEN, f"run_name={name}",
            f"trainer.async_checkpoints={name}", "trainer.average_decay=0.9",
        )  # fmt: skip
        assert ("each from a copy of" in trainer.describe()) == (name == "true")
        trainer.fit()
        digests.append(digest(run.checkpoints))
        logs.append(losses(run))
        assert not any("between steps" in line for line in lines)
    assert digests[0] == digests[1]
    assert logs[0] == logs[1]


def test_a_writer_that_fails_ends_the_run_and_leaves_the_checkpoints_before(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    run, trainer, _ = start(tmp_path, prepared, *OFTEN)
    flush, calls = save.flush_to_disk, [0]

    def full(path: Path) -> None:
        calls[0] += path.name == "dense.safetensors"
        if calls[0] == 3:
            with writing_to(path):
                raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(save, "flush_to_disk", full)
    with pytest.raises(WriteError, match=r"dense\.safetensors needs"):
        trainer.fit()
    assert names(run) == ["step_000000002", "step_000000004"]
    assert trainer.step < 14
    monkeypatch.undo()
    resumed = again(run)
    resumed.fit()
    assert resumed.step == 14


def test_without_room_for_a_copy_checkpoints_come_between_steps_and_a_line_says_so(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    run, trainer, lines = start(tmp_path, prepared, *OFTEN)
    needed = trainer.learner.num_checkpoint_bytes()
    monkeypatch.setattr("dlrm.keeping.free_memory", lambda: needed)
    monkeypatch.setattr(trainer.learner.saver, "start", None)
    trainer.fit()
    assert len(names(run)) == 8  # Every second step, and step 7, the best then.
    (told,) = [line for line in lines if "between steps" in line]
    assert "would not fit" in told


def test_damaged_checkpoints_are_set_aside_and_those_to_come_are_kept(
    tmp_path: Path, prepared: Path
):
    run, trainer, _ = start(tmp_path, prepared, *OFTEN)
    trainer.fit()
    whole = digest(run.checkpoints / "step_000000014")
    (run.checkpoints / "step_000000014" / "dense.safetensors").write_bytes(b"")
    (run.checkpoints / "step_000000012" / "state.json").unlink()
    state = run.checkpoints / "step_000000010" / "state.json"
    state.write_text(state.read_text().replace('"epoch": 1', '"epoch": 0'))
    resumed = again(run)
    lines: list[str] = []
    resumed.report = lines.append
    resumed.config.keep_checkpoints = 1
    assert resumed.resume()
    assert resumed.step == 8
    assert [line.split(":")[0] for line in lines[:-1]] == [
        f"Skipped a checkpoint, now damaged_step_0000000{step}" for step in (12, 14, 10)
    ]
    assert "dense.safetensors is missing or damaged" in lines[1]
    assert "state.json is missing or damaged" in lines[2]
    resumed.fit()
    assert "step_000000014" in names(run)
    assert digest(run.checkpoints / "step_000000014") == whole


def test_what_a_killed_save_left_goes_with_the_next_start(
    tmp_path: Path, prepared: Path
):
    run, trainer, _ = start(tmp_path, prepared, "trainer.max_steps=2")
    trainer.fit()
    (folder,) = list_checkpoints(run.checkpoints)
    before = digest(run.checkpoints)
    for name in (".removing-step_000000001", ".writing-step_000000002"):
        shutil.copytree(folder, run.checkpoints / name)
    # It was killed before it could remove the oldest, too.
    shutil.copytree(folder, run.checkpoints / "step_000000000")
    shutil.copytree(folder, run.checkpoints / "step_000000001")
    resumed = again(run)
    resumed.config.keep_checkpoints = 1
    resumed.fit()
    assert digest(run.checkpoints) == before


def test_a_dataset_that_is_deleted_in_mid_epoch_takes_no_row_away(
    tmp_path: Path, prepared: Path
):
    own = tmp_path / "own"
    shutil.copytree(prepared, own)
    whole, trainer, _ = start(tmp_path, own, "run_name=whole")
    trainer.fit()
    run, trainer, _ = start(tmp_path, own, "run_name=deleted")
    train_step = trainer._train_step

    def step(batch) -> None:
        train_step(batch)
        if trainer.step == 2:
            shutil.rmtree(own)

    trainer._train_step = step
    trainer.fit()
    assert digest(run.checkpoints) == digest(whole.checkpoints)


def test_a_clock_that_is_set_back_changes_nothing(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, trainer, _ = start(tmp_path, prepared, "run_name=whole")
    trainer.fit()
    now = [time.time()]

    def back() -> float:
        now[0] -= 3600.0
        return now[0]

    run, trainer, _ = start(tmp_path, prepared, "run_name=back")
    monkeypatch.setattr(time, "time", back)
    trainer.fit()
    assert digest(run.checkpoints) == digest(whole.checkpoints)
    speeds = [r["examples_per_second"] for r in read_metrics(run.folder) if "loss" in r]
    assert all(0 < speed < 1e9 for speed in speeds)


def test_a_table_that_is_not_finite_is_named_with_its_row(
    tmp_path: Path, prepared: Path
):
    _, trainer, _ = start(tmp_path, prepared, "trainer.num_epochs=2")
    train_step = trainer._train_step

    def step(batch) -> None:
        if trainer.step == 9:
            states = table_states(trainer.learner.model)
            states["item"].weight[:, 0] = float("nan")
        train_step(batch)

    trainer._train_step = step
    with pytest.raises(TrainingError, match=r"table 'item': weight of .* rows, the"):
        trainer.fit()


def test_a_run_that_is_being_trained_is_refused_to_a_second_process(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    holder = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); "
        "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    )
    held = subprocess.Popen(
        [sys.executable, "-c", holder, str(folder / ".lock")], stdout=subprocess.PIPE
    )
    try:
        assert held.stdout is not None
        held.stdout.readline()
        before = digest(folder)
        assert main(["train", f"run={folder}", "trainer.num_epochs=9"]) == 2
        assert digest(folder) == before
    finally:
        held.kill()
        held.communicate()
    assert f"another one is training {folder}" in capsys.readouterr().err


def test_tables_beyond_memory_are_refused_before_the_run_has_a_directory(
    tmp_path: Path,
    prepared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("dlrm.planning.fits.free_memory", lambda: 10**6)
    overrides = tiny_overrides(tmp_path, "run_name=big", prepared=prepared)
    assert main(["train", *overrides]) == 2
    told = capsys.readouterr().err
    assert "Training must fit into the 1.0 MB of memory" in told
    assert "Largest: " in told
    assert not (tmp_path / "outputs" / "big").exists()


def test_a_hangup_stops_a_run_but_not_one_under_nohup():
    with StopSignals(silent=True) as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.received is signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(silent=True) as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_state_is_json_that_ends_with_its_own_checksum(
    tmp_path: Path, prepared: Path
):
    run, trainer, _ = start(tmp_path, prepared, "trainer.max_steps=1")
    trainer.fit()
    (folder,) = list_checkpoints(run.checkpoints)
    state = json.loads((folder / "state.json").read_text())
    assert list(state)[-1] == "checksum"
    for name, size in state["sizes"].items():
        assert (folder / name).stat().st_size == size
    assert state["sizes"].keys() == state["files"].keys()
