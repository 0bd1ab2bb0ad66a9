"""One command becomes several ranks, which end as one: one message, one exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import dlrm
from dlrm.commands import launch
from dlrm.commands.evaluate import main as evaluate_main
from dlrm.commands.main import main
from dlrm.commands.predict import main as predict_main
from dlrm.config.compose import save_config
from dlrm.config.errors import ConfigError
from dlrm.config.launcher import LauncherConfig
from dlrm.config.trainer import Device, TrainerConfig
from tests.runs import tiny_config, tiny_overrides

START = Path(__file__).with_name("start_ranks.py")
LAUNCHERS = ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
SECONDS = 60

STAND_IN = """
import json, os, signal, sys, time

command, rank = sys.argv[1], os.environ["RANK"]
life = os.environ["TORCHELASTIC_RESTART_COUNT"]

def fail(message, code, of_other_rank=False):
    failure = dict(message=message, code=code, of_other_rank=of_other_rank, timestamp=1)
    open(os.environ["TORCHELASTIC_ERROR_FILE"], "w").write(json.dumps(failure))
    sys.exit(code)

def save(number, frame):
    os.write(1, b"saving\\n")  # At once: the ranks share one pipe.
    time.sleep(1)
    open(f"saved-{rank}", "w").close()
    sys.exit(130)

if command == "show":
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS",
             "MASTER_ADDR", "DLRM_LAUNCHED")
    line = json.dumps({name: os.environ[name] for name in names})
    os.write(1, (json.dumps(sys.argv[1:]) + line + "\\n").encode())
elif command == "mistake":
    fail("sede is not a setting.", 2) if rank == "1" else time.sleep(60)
elif command == "die":
    if rank == "1" and life == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(1, f"life {life} of rank {rank}\\n".encode())
elif command == "bug":
    sys.exit(1) if rank == "0" else fail("Rank 0 stopped the job.", 2, True)
elif command in ("wait", "stay"):
    stop = save if command == "wait" else lambda number, frame: None
    signal.signal(signal.SIGTERM, stop), signal.signal(signal.SIGINT, stop)
    open(f"ready-{rank}", "w").close()
    for _ in range(600):
        time.sleep(0.1)
"""
"""Stands for the package ``dlrm`` in the ranks."""


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ranks(workdir: Path) -> Path:
    """Make ``python -m dlrm`` the stand-in below the current directory."""
    (workdir / "dlrm").mkdir()
    (workdir / "dlrm" / "__main__.py").write_text(STAND_IN)
    return workdir


def start(*argv: str, number: int = 2, restarts: int = 0) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        [sys.executable, str(START), str(number), str(restarts), *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def end_of(job: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = job.communicate(timeout=SECONDS)
    return job.returncode, out, err


def test_every_rank_runs_the_command_and_knows_its_place(ranks: Path):
    code, out, err = end_of(start("show", "data=x y"))
    assert (code, err) == (0, "")
    lines = sorted(out.splitlines())
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    for rank, line in enumerate(lines):
        arguments, place = line[: line.index("{")], json.loads(line[line.index("{") :])
        assert json.loads(arguments) == ["show", "data=x y"]
        assert place == {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "OMP_NUM_THREADS": str(threads),
            "MASTER_ADDR": "localhost",
            "DLRM_LAUNCHED": "1",
        }
    assert len(lines) == 2


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_users_error_is_printed_once_and_ends_all_ranks(ranks: Path, restarts: int):
    code, out, err = end_of(start("mistake", restarts=restarts))
    # The stand-in fails anew; the real command ends at once: see test_failure.py.
    assert (code, out) == (2, "")
    assert err == "dlrm mistake: error: sede is not a setting.\n"


@pytest.mark.slow
def test_a_rank_that_was_killed_is_named(ranks: Path):
    code, _, err = end_of(start("die"))
    assert code == 75
    assert "error: rank 1 was killed by SIGKILL, as by a system that is out of" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_after_a_death_all_ranks_start_again(ranks: Path):
    code, out, err = end_of(start("die", restarts=2))
    assert code == 0
    assert {"life 1 of rank 0", "life 1 of rank 1"} <= set(out.splitlines())
    assert err == (
        "dlrm: rank 1 was killed by SIGKILL, as by a system that is out of memory; "
        "all 2 ranks are started again (restart 1 of 2).\n"
    )


@pytest.mark.slow
def test_a_bug_is_told_from_what_follows_from_it(ranks: Path):
    code, _, err = end_of(start("bug"))
    assert code == 1
    assert "error: rank 0 ended with exit code 1, and the others were stopped" in err


def wait_for(folder: Path, *names: str) -> None:
    limit = time.monotonic() + SECONDS
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_rank_which_may_finish_saving(
    ranks: Path, number: signal.Signals
):
    job = start("wait")
    wait_for(ranks, "ready-0", "ready-1")
    job.send_signal(number)
    code, out, err = end_of(job)
    assert (code, err) == (130, "")
    assert out.splitlines() == ["saving", "saving"]
    assert (ranks / "saved-0").exists()
    assert (ranks / "saved-1").exists()


@pytest.mark.slow
def test_a_third_signal_leaves_no_rank_behind(ranks: Path):
    job = start("stay")
    wait_for(ranks, "ready-0", "ready-1")
    for _ in range(3):
        job.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert end_of(job)[0] == 130
    found = subprocess.run(
        ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
    ).stdout
    assert f"{sys.executable} -m dlrm stay" not in found


def test_processes_are_started_where_several_are_wanted():
    assert not launch.needed(LauncherConfig())
    assert not launch.needed(LauncherConfig(processes=1))
    assert launch.needed(LauncherConfig(processes=2))
    assert launch.needed(LauncherConfig(processes=1, max_restarts=1))


def test_ranks_start_no_more_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not launch.needed(LauncherConfig(processes=2))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    four = LauncherConfig(processes=4)
    with pytest.raises(ConfigError, match="number of GPUs, 2, but is 4"):
        launch.run(["train"], launcher=four, trainer=TrainerConfig(num_epochs=1))
    launch._check_gpus(4, Device.cpu)
    launch._check_gpus(2, Device.auto)


def test_threads_of_the_config_are_kept():
    trainer = TrainerConfig(num_epochs=1, num_threads=3)
    assert launch._environment(2, trainer)["OMP_NUM_THREADS"] == "3"


def test_from_python_processes_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"launcher.processes=2 is for the command"):
        dlrm.train(*tiny_overrides(tmp_path, "launcher.processes=2"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("main", [evaluate_main, predict_main])
def test_evaluate_and_predict_start_ranks_with_the_runs_settings(
    main, workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    run = workdir / "run"
    run.mkdir()
    config = tiny_config(workdir, "trainer.device=cpu")
    save_config(config, run / "config.yaml")
    started = []

    def start_ranks(argv, *, launcher, trainer):
        started.append((argv, launcher.processes, trainer.device))
        return 7

    monkeypatch.setattr(launch, "run", start_ranks)
    argv = [f"run={run}", "processes=3"]
    argv += ["input=a.csv", "output=b.csv"] if main is predict_main else []
    assert main(argv) == 7
    name = "predict" if main is predict_main else "evaluate"
    assert started == [([name, *argv], 3, Device.cpu)]


@pytest.mark.parametrize("number", ["0", "-1", "two", "2.5"])
def test_processes_must_be_a_number(number: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=f"number above 0, but is '{number}'"):
        launch.run_on(tmp_path, ["evaluate"], processes=number)


def failure(exit_code: int, at: int, file: Path) -> SimpleNamespace:
    return SimpleNamespace(exitcode=exit_code, timestamp=at, error_file=str(file))


def told(file: Path, message: str, code: int, **more: object) -> Path:
    file.write_text(json.dumps({"message": message, "code": code} | more))
    return file


def test_the_first_reason_that_a_rank_gives_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    nothing = tmp_path / "nothing"
    failures = {
        0: failure(1, 5, nothing),
        1: failure(2, 9, told(tmp_path / "1", "later", 2, timestamp=9)),
        2: failure(2, 6, told(tmp_path / "2", "first", 2, timestamp=6)),
        3: failure(
            2, 4, told(tmp_path / "3", "see rank 2", 2, timestamp=4, of_other_rank=True)
        ),
        4: failure(-signal.SIGTERM, 3, nothing),
    }
    assert launch._tell(failures, command="train") == 2
    assert capsys.readouterr().err == "dlrm train: error: first\n"


def test_ranks_that_were_stopped_are_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = told(tmp_path / "0", "", 130, timestamp=4)
    assert launch._tell({0: failure(130, 4, file)}, command="train") == 130
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_two_processes_train_and_evaluate_what_one_does(tmp_path: Path, prepared: Path):
    # Dropout draws other units where the batch is parted otherwise.
    overrides = tiny_overrides(tmp_path, "model.dropout=0", prepared=prepared)
    alone = dlrm.train(*overrides, "run_name=one", report=lambda line: None)
    two = tmp_path / "outputs" / "two"
    for line in (
        ["train", *overrides, "run_name=two", "launcher.processes=2"],
        ["evaluate", f"run={two}", "processes=2"],
    ):
        command = [sys.executable, "-m", "dlrm", *line]
        done = subprocess.run(command, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr
    assert json.loads((two / "manifest.json").read_text())["world_size"] == 2

    def metrics(run: Path) -> dict[str, float]:
        text = (run / "evaluation" / "test" / "metrics.json").read_text()
        return {k: v for k, v in json.loads(text).items() if isinstance(v, float)}

    assert metrics(two) == pytest.approx(metrics(alone.folder), abs=1e-5)


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_commands_of_one_process_refuse_to_be_one_of_two(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    started = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in (started | {"MASTER_ADDR": "::1", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)
    assert main([command]) == 2
    said = f"dlrm {command} must be one process, but a launcher started 2"
    assert said in capsys.readouterr().err
