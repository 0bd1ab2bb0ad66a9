"""``dlrm train``: what it prints and leaves, what it refuses, and how it goes on."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlrm.commands.main import main
from dlrm.commands.train import resume, train
from dlrm.config.errors import ConfigError, RunError
from dlrm.run import Run, open_run
from tests.runs import digest, tiny_overrides

MODEL = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from dlrm.config.model import ModelConfig, register_model
from dlrm.embeddings.features import FeatureEmbeddings

with open({marker!r}, "a") as file:
    file.write("executed\\n")

@dataclass(kw_only=True, slots=True)
class LinearConfig(ModelConfig):
    scale: float = 1.0

@register_model("train_test_linear", LinearConfig)
class Linear(nn.Module):
    def __init__(self, config, schema):
        super().__init__()
        self.embeddings = FeatureEmbeddings(schema)
        self.scale = config.scale
        self.output = nn.Linear(schema.num_dense + sum(self.embeddings.widths), 1)

    def forward(self, batch):
        vectors = self.embeddings.concatenated(batch.sparse)
        return self.scale * self.output(torch.cat([batch.dense, vectors], dim=1))
"""


def test_the_command_ends_with_the_run_directory_and_says_nothing_twice(
    tmp_path: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
):
    overrides = tiny_overrides(tmp_path, "run_name=mine", prepared=prepared)
    assert main(["train", *overrides, "trainer.num_epochs=2"]) == 0
    printed, progress = capfd.readouterr()
    lines = [line for line in printed.splitlines() if line]
    run = tmp_path / "outputs" / "mine"
    assert lines[-2:] == [
        f"report  {run / 'evaluation' / 'test' / 'report.html'}",
        f"run     {run}",
    ]
    assert len(set(lines)) == len(lines)
    evaluations = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in evaluations] == ["7", "14"]
    assert not set(lines) & set(progress.splitlines())
    assert "\r" not in printed + progress


def test_a_run_holds_all_that_is_promised(trained: Run):
    names = {path.name for path in trained.folder.iterdir()} - {".lock"}
    assert names == {
        "config.yaml", "manifest.json", "schema.json", "vocabularies", "metrics.jsonl",
        "checkpoints", "evaluation", "contract.json", "contract_rows.npy",
        "contract_ids.npy", "findings.json",
    }  # fmt: skip
    found = {path.name for path in trained.evaluation("test").iterdir()}
    assert found == {
        "metrics.json", "predictions.parquet", "report.html", "report.md",
        "slices.json",
    }  # fmt: skip


def test_lines_of_results_go_to_the_report_that_was_given(
    tmp_path: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
):
    lines: list[str] = []
    overrides = tiny_overrides(tmp_path, prepared=prepared)
    run = train(*overrides, report=lines.append)
    assert lines[-1] == f"run     {run.folder}"
    assert capfd.readouterr().out == ""


def test_a_finished_run_is_judged_again_and_left_as_it_is(
    tmp_path: Path, prepared: Path
):
    overrides = tiny_overrides(tmp_path, "run_name=mine", prepared=prepared)
    run = train(*overrides, report=lambda line: None)
    before = digest(run.checkpoints)
    metrics = (run.evaluation("test") / "metrics.json").read_text()
    lines: list[str] = []
    resume(run.folder, report=lines.append)
    assert lines[0].startswith("data ")
    assert f"Going on from {run.checkpoints / 'step_000000007'} (step 7)." in lines
    assert digest(run.checkpoints) == before
    assert (run.evaluation("test") / "metrics.json").read_text() == metrics


def test_more_epochs_go_on_where_the_run_stopped(tmp_path: Path, prepared: Path):
    overrides = tiny_overrides(
        tmp_path, "optimizer.schedule.decay=constant", prepared=prepared
    )
    short = train(*overrides, "run_name=short", report=lambda line: None)
    whole = train(
        *overrides, "run_name=whole", "trainer.num_epochs=2", report=lambda line: None
    )
    resume(short.folder, "trainer.num_epochs=2", report=lambda line: None)
    last = "step_000000014"
    assert digest(short.checkpoints / last) == digest(whole.checkpoints / last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.seed=1"], "keeps its settings, but trainer.seed=1 was given"),
        (["data=synthetic"], "keeps its settings, but data=synthetic was given"),
        (["trainer.num_epochs=0"], "trainer.num_epochs must be >= 1"),
        (["-m", "trainer.num_epochs=1,2"], "-m starts new runs and cannot go on"),
        (["run=other"], "run must be given once"),
    ],
)
def test_what_a_run_cannot_go_on_with_is_refused(
    trained: Run,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    before = digest(trained.folder)
    assert main(["train", f"run={trained.folder}", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert digest(trained.folder) == before


def test_a_run_that_is_not_there_cannot_go_on(
    workdir: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", "run=outputs/nosuch"]) == 2
    assert "must hold config.yaml, but outputs/nosuch" in capsys.readouterr().err


def test_a_stopped_run_is_never_removed_by_a_start_that_fails(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    overrides = tiny_overrides(tmp_path, "run_name=mine", prepared=prepared)
    run = train(*overrides, "trainer.max_steps=1", report=lambda line: None)
    for path in run.checkpoints.iterdir():
        path.rename(tmp_path / path.name)
    run.checkpoints.rmdir()

    def refuse(*args: object, **kwargs: object) -> None:
        raise RunError("no device")

    monkeypatch.setattr("dlrm.trainer.choose_device", refuse)
    with pytest.raises(RunError, match="no device"):
        resume(run.folder)
    assert open_run(run.folder).config == run.config


def test_a_sweep_on_ranks_is_refused(
    workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in {
        "WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "localhost", "MASTER_PORT": "29500",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert main(["train", "-m", "trainer.seed=1,2"]) == 2
    message = capsys.readouterr().err
    assert "A sweep starts its runs itself, but WORLD_SIZE is 4" in message
    assert "without torchrun" in message
    assert list(workdir.iterdir()) == []


def test_one_process_under_a_launcher_trains(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WORLD_SIZE", "1")
    overrides = tiny_overrides(tmp_path, "trainer.max_steps=1", prepared=prepared)
    assert train(*overrides, report=lambda line: None).checkpoints.is_dir()


def test_a_users_model_is_trained_and_later_run_only_when_named(
    workdir: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
):
    marker = workdir / "executed"
    file = workdir / "linear_model.py"
    file.write_text(MODEL.format(marker=str(marker)))
    (workdir / "conf" / "model").mkdir(parents=True)
    (workdir / "conf" / "model" / "linear.yaml").write_text(
        "name: train_test_linear\nembedding_dim: 4\n"
    )
    overrides = [
        text
        for text in tiny_overrides(workdir, "model=linear", prepared=prepared)
        if not text.startswith("model.")
    ]
    code = ["--code", "linear_model.py"]
    assert main(["train", *code, *overrides, "run_name=mine"]) == 0
    run = workdir / "outputs" / "mine"
    copy = run / "code" / "linear_model.py"
    assert copy.read_text() == file.read_text()
    executed = marker.read_text()

    rows = ["input=x.csv", "output=y.csv"]
    for command in (["evaluate"], ["predict", *rows], ["train"]):
        capsys.readouterr()
        assert main([*command, f"run={run}"]) == 2
        message = capsys.readouterr().err
        assert "uses code of its own, which is not run unasked" in message
        assert message.endswith(f"--code {copy}\n")
        assert marker.read_text() == executed

    assert main(["evaluate", f"run={run}", "--code", str(copy)]) == 0
    assert marker.read_text() == executed + "executed\n"


def test_a_model_without_its_file_is_no_model(tmp_path: Path, prepared: Path):
    overrides = tiny_overrides(tmp_path, "model.name=nosuch", prepared=prepared)
    with pytest.raises(ConfigError, match="is loaded with --code FILE"):
        train(*overrides)


LONG = (
    "trainer.num_epochs=60", "trainer.evaluate_every=70", "trainer.checkpoint_every=5",
    "optimizer.schedule.decay=cosine", "run_name=mine",
)  # fmt: skip
LAST_STEP = 420


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dlrm", "train", *arguments]


def start(folder: Path, prepared: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a long run in a process of its own; return it and its directory."""
    process = subprocess.Popen(
        command(*tiny_overrides(folder, *LONG, prepared=prepared)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process, folder / "outputs" / "mine"


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        log = run / "metrics.jsonl"
        lines = log.read_text().splitlines() if log.is_file() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.005)
    pytest.fail(f"step {step} did not come: {process.communicate()[0]}")


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, prepared: Path
) -> dict[str, str]:
    """Return the last checkpoint of the run that nothing stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process, run = start(folder, prepared)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert output.index("\ntrain ") < output.index("\nstep ") < output.index("\nreport")
    return digest(run / "checkpoints" / f"step_{LAST_STEP:09d}")


def go_on(run: Path, *, from_step: int = 0) -> dict[str, str]:
    """Let a run come to its end, and return its last checkpoint."""
    done = subprocess.run(
        command(f"run={run}"), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    if from_step:
        found = re.search(r"Going on from .* \(step (\d+)\)", done.stdout)
        assert found is not None
        assert int(found[1]) >= from_step
    return digest(run / "checkpoints" / f"step_{LAST_STEP:09d}")


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_the_line_to_go_on(
    tmp_path: Path, prepared: Path, undisturbed: dict[str, str]
):
    process, run = start(tmp_path, prepared)
    wait_for_step(process, run, 100)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "Stopping after this step; once more stops at once." in output
    assert output.splitlines()[-2:] == [
        f"Go on with: dlrm train run={run}",
        "Stopped by SIGINT.",
    ]
    assert go_on(run, from_step=100) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(
    tmp_path: Path, prepared: Path, undisturbed: dict[str, str], seed: int
):
    draw = random.Random(seed)
    process, run = start(tmp_path, prepared)
    wait_for_step(process, run, draw.randrange(2, 300))
    time.sleep(draw.uniform(0, 0.02))
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert go_on(run) == undisturbed
    left = [path.name for path in (run / "checkpoints").iterdir()]
    assert all(name.startswith("step_") or name == "best.json" for name in left)
