"""A sweep's runs become jobs of a batch system, one task a rank."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlrm.commands import submit
from dlrm.commands.main import main
from dlrm.commands.submit import Queue, RankEndedError, TrainTask, take_queue
from dlrm.commands.sweep import sweep
from dlrm.config.errors import ConfigError, InstallationError
from tests.commands.slurm import install
from tests.runs import tiny_overrides

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
SECONDS = 200
LOCAL, SLURM = "hydra/launcher=submitit_local", "hydra/launcher=submitit_slurm"


def test_without_a_launcher_nothing_is_taken():
    assert take_queue(["trainer.seed=1,2"]) == (None, ["trainer.seed=1,2"])


def test_the_plugins_settings_are_taken_with_its_defaults():
    queue, rest = take_queue(
        [
            SLURM,
            "trainer.seed=1,2",
            "hydra.launcher.nodes=2",
            "hydra.launcher.tasks_per_node=8",
            "hydra.launcher.partition=long",
            "hydra.launcher.setup=[module load cuda]",
            "+hydra.launcher.additional_parameters.mail-type=END",
        ]
    )
    assert rest == ["trainer.seed=1,2"]
    assert queue is not None
    assert queue.cluster == "slurm"
    # What the plugin's own SlurmQueueConf says, where the command line says nothing.
    assert queue.settings == {
        "nodes": 2,
        "tasks_per_node": 8,
        "partition": "long",
        "setup": ["module load cuda"],
        "additional_parameters": {"mail-type": "END"},
        "timeout_min": 60,
        "name": "dlrm",
        "stderr_to_stdout": False,
        "signal_delay_s": 120,
        "max_num_timeout": 0,
        "array_parallelism": 256,
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.launcher.nodes=2"], "need one hydra/launcher, but there are 0"),
        (["hydra/launcher=submitit_slrum"], "Did you mean submitit_slurm"),
        (["hydra/launcher=joblib"], "one of submitit_slurm, submitit_local, but is"),
        ([SLURM, "hydra.launcher.node=2"], "Did you mean nodes"),
        ([LOCAL, "hydra.launcher.partition=x"], "partition is not a setting"),
        ([SLURM, "hydra.launcher._target_=x"], "_target_ is not a setting"),
        ([SLURM, "hydra.launcher.nodes=many"], "the plugin's type, but is 'many'"),
        ([SLURM, "hydra.launcher.nodes=1,2"], "must be one value, but 1,2 is several"),
    ],
)
def test_what_the_plugin_does_not_have_is_refused(overrides: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        take_queue(overrides)


def test_without_the_plugin_the_line_that_installs_it_is_printed(
    monkeypatch: pytest.MonkeyPatch,
):
    name = "hydra_plugins.hydra_submitit_launcher.config"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InstallationError, match="pip install hydra-submitit-launcher"):
        take_queue([SLURM])


def test_without_a_sweep_a_launcher_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["train", LOCAL]) == 2
    assert f"Type dlrm train -m {LOCAL}" in capsys.readouterr().err


def test_without_slurm_nothing_is_written(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(workdir))
    with pytest.raises(ConfigError, match='Could not detect "srun"'):
        sweep([SLURM, "trainer.seed=1,2"])
    assert list(workdir.iterdir()) == []


def test_one_machine_has_no_second_node(workdir: Path):
    with pytest.raises(ConfigError, match="can use only one node"):
        sweep([LOCAL, "hydra.launcher.nodes=2", "trainer.seed=1,2"])


def test_a_single_run_may_be_submitted(workdir: Path, monkeypatch: pytest.MonkeyPatch):
    submitted = []

    def run_jobs(queue: Queue, jobs: list[tuple[str, list[str]]], folder: Path):
        submitted.extend(jobs)
        yield from ((number, 0) for number in range(len(jobs)))

    monkeypatch.setattr("dlrm.commands.sweep.run_jobs", run_jobs)
    assert sweep([LOCAL, "trainer.seed=1", "run_name=mine"]) == 0
    place = ["output=outputs/mine", "run_name=0", "resume=true"]
    assert submitted == [("0", ["trainer.seed=1", *place])]


class FakeProcess:
    """Stands for ``dlrm train``: told that the time is up, it saves and stops."""

    def __init__(self, code: int, events: list[str], time_up: bool = False) -> None:
        self.code, self.events, self.time_up = code, events, time_up

    def wait(self) -> int:
        if self.time_up:
            os.kill(os.getpid(), signal.SIGUSR2)
        self.events.append("saved")
        return self.code

    def send_signal(self, number: int) -> None:
        self.events.append(signal.Signals(number).name)


@pytest.fixture
def task_of_slurm(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make this process a task of a job; return what happens to it."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    events: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: events.append("queued again"))
    yield events
    signal.signal(signal.SIGUSR2, before)


def test_a_job_whose_time_is_up_saves_before_it_is_queued_again(
    task_of_slurm: list[str], monkeypatch: pytest.MonkeyPatch
):
    commands = []

    def popen(command: list[str]) -> FakeProcess:
        commands.append(command)
        return FakeProcess(130, task_of_slurm, time_up=True)

    monkeypatch.setattr(submit.subprocess, "Popen", popen)
    assert TrainTask()(["trainer.seed=1"]) == 130
    assert task_of_slurm == ["SIGTERM", "saved", "queued again"]
    assert commands == [[sys.executable, "-m", "dlrm", "train", "trainer.seed=1"]]


def test_a_rank_that_fails_fails_its_task(
    task_of_slurm: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        submit.subprocess, "Popen", lambda command: FakeProcess(2, task_of_slurm)
    )
    with pytest.raises(RankEndedError, match="exit code 2"):
        TrainTask()([])


def test_a_job_that_is_queued_again_runs_the_same():
    again = TrainTask().checkpoint(["trainer.seed=1"])
    assert isinstance(again.function, TrainTask)
    assert again.args == (["trainer.seed=1"],)


def submitted_sweep(
    tmp_path: Path, prepared: Path, *launcher: str, path: str = ""
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    overrides = tiny_overrides(tmp_path, "run_name=mine", prepared=prepared)
    environment = os.environ | {"PATH": f"{path}{os.environ['PATH']}"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dlrm", "train", "-m", *launcher, *overrides),
            "trainer.seed=1,-1",
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=tmp_path,
        env=environment,
    )
    table = tmp_path / "outputs" / "mine" / "sweep.csv"
    with table.open(newline="") as file:
        return done, list(csv.DictReader(file))


def check_sweep(
    done: subprocess.CompletedProcess[str], rows: list[dict[str, str]]
) -> None:
    """Check what a sweep of a sound job and one with a mistake leaves behind."""
    assert done.returncode == 1, done.stderr
    assert [row["status"] for row in rows] == ["done", "failed (exit 2)"], done.stdout
    manifest = json.loads((Path(rows[0]["run"]) / "manifest.json").read_text())
    assert manifest["world_size"] == 2
    assert rows[0]["auc"] != ""
    (failed,) = [
        line for line in done.stdout.splitlines() if "failed (exit 2)," in line
    ]
    log = Path(failed.rpartition("see ")[2])
    assert "trainer.seed must be" in log.read_text()


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_local_jobs_of_two_ranks_end_to_end(tmp_path: Path, prepared: Path):
    two = "hydra.launcher.tasks_per_node=2"
    check_sweep(*submitted_sweep(tmp_path, prepared, LOCAL, two))


@pytest.mark.slow
@pytest.mark.xdist_group("torchrun")
def test_slurm_jobs_of_two_nodes_end_to_end(tmp_path: Path, prepared: Path):
    place = install(tmp_path)
    nodes = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1")
    done, rows = submitted_sweep(
        tmp_path, prepared, SLURM, *nodes, path=f"{place}{os.pathsep}"
    )
    check_sweep(done, rows)
    (script,) = (tmp_path / "jobs").glob("*.sh")
    text = script.read_text()
    assert "#SBATCH --nodes=2\n" in text
    assert "--kill-on-bad-exit=1" in text
