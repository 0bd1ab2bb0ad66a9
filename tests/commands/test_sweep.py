"""A sweep is one run a combination, survives a failed one, and ends in a table."""

import csv
import json
from pathlib import Path

import pytest

from dlrm.commands import sweep as module
from dlrm.commands.main import main
from dlrm.commands.sweep import Job, expand_jobs, summarize_job, sweep
from dlrm.config.errors import ConfigError
from tests.runs import tiny_overrides


def swept(overrides: list[str]) -> list[tuple[str, ...]]:
    return [job.swept for job in expand_jobs(overrides)]


def test_jobs_are_every_combination_the_last_setting_varying_fastest():
    jobs = expand_jobs(["optimizer.dense.lr=0.1,0.01", "data=x", "trainer.seed=1,2"])
    assert [job.swept for job in jobs] == [
        ("optimizer.dense.lr=0.1", "trainer.seed=1"),
        ("optimizer.dense.lr=0.1", "trainer.seed=2"),
        ("optimizer.dense.lr=0.01", "trainer.seed=1"),
        ("optimizer.dense.lr=0.01", "trainer.seed=2"),
    ]
    assert jobs[0].overrides == ("optimizer.dense.lr=0.1", "data=x", "trainer.seed=1")
    assert [job.name for job in jobs] == ["0", "1", "2", "3"]


def test_ranges_choices_lists_and_presets_are_swept():
    assert len(swept(["trainer.seed=range(0,12)"])) == 12
    assert expand_jobs(["trainer.seed=range(0,12)"])[3].name == "03"
    assert swept(["optimizer.sparse.name=choice(sgd,adam)"]) == [
        ("optimizer.sparse.name=sgd",),
        ("optimizer.sparse.name=adam",),
    ]
    assert swept(["model.top_mlp=[64,32],[128]"]) == [
        ("model.top_mlp=[64,32]",),
        ("model.top_mlp=[128]",),
    ]
    assert swept(["model=dlrm,dlrm_dcnv2"]) == [("model=dlrm",), ("model=dlrm_dcnv2",)]


def test_a_path_with_a_comma_is_one_value():
    jobs = expand_jobs(["data.source=a,b.csv", "trainer.seed=1,2"])
    assert {job.overrides[0] for job in jobs} == {"data.source=a,b.csv"}


@pytest.mark.parametrize("overrides", [[], ["trainer.seed=1"], ["model.top_mlp=[1,2]"]])
def test_a_sweep_over_nothing_is_refused(overrides: list[str]):
    with pytest.raises(ConfigError, match="-m needs a setting with several values"):
        expand_jobs(overrides)


def test_a_mistake_that_all_jobs_share_is_refused_before_the_first(workdir: Path):
    with pytest.raises(ConfigError, match=r"trainer.sede is not a setting"):
        sweep(["trainer.seed=1,2", "trainer.sede=3"])
    assert list(workdir.iterdir()) == []


def test_an_existing_folder_is_not_written_into(workdir: Path):
    (workdir / "outputs" / "mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"outputs/mine exists"):
        sweep(["trainer.seed=1,2", "run_name=mine"])


def write_results(run: Path, *, split: str, auc: float) -> None:
    """Write what a finished run leaves behind."""
    (run / "evaluation" / split).mkdir(parents=True)
    metrics = {"auc": auc, "log_loss": 0.25}
    (run / "evaluation" / split / "metrics.json").write_text(json.dumps(metrics))
    (run / "checkpoints").mkdir()
    best = {"checkpoint": "step_000000010", "step": 10, "auc": auc - 0.01}
    (run / "checkpoints" / "best.json").write_text(json.dumps(best))


def test_a_sweep_survives_a_failed_job_and_ends_with_a_table(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def run_job(job: Job, folder: Path, code: list[Path]) -> int:
        if "trainer.seed=-1" in job.overrides:
            return 2
        write_results(folder / job.name, split="test", auc=0.75)
        return 0

    monkeypatch.setattr(module, "_run_job", run_job)
    assert sweep(["trainer.seed=1,-1,3", "output=there", "run_name=mine"]) == 1
    folder = workdir / "there" / "mine"
    with (folder / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "failed (exit 2)", "done"]
    assert [row["overrides"] for row in rows] == [
        "trainer.seed=1",
        "trainer.seed=-1",
        "trainer.seed=3",
    ]
    assert [row["auc"] for row in rows] == ["0.75", "", "0.75"]
    text = capsys.readouterr().out
    assert "sweep 3/3  trainer.seed=3" in text
    assert "failed (exit 2)" in text
    assert "auc 0.74000" in text


def test_a_sweep_of_sound_jobs_exits_with_zero(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_run_job", lambda job, folder, code: 0)
    assert sweep(["trainer.seed=1,2"]) == 0
    (folder,) = (workdir / "outputs").iterdir()
    assert folder.name.endswith("-sweep")


def test_an_interrupted_sweep_still_writes_its_table(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
):
    def run_job(job: Job, folder: Path, code: list[Path]) -> int:
        if job.name == "1":
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(module, "_run_job", run_job)
    with pytest.raises(KeyboardInterrupt):
        sweep(["trainer.seed=1,2", "run_name=mine"])
    text = (workdir / "outputs" / "mine" / "sweep.csv").read_text()
    assert len(text.splitlines()) == 2


def test_a_job_is_a_process_that_gets_its_own_run_directory(workdir: Path):
    model = workdir / "model.py"
    model.write_text("raise RuntimeError('from the model file')\n")
    job = Job("0", ("trainer.seed=1",), ("trainer.seed=1",))
    # The file named by --code stops the job before anything is prepared or trained.
    assert module._run_job(job, workdir / "sweep", [model]) == 2


def test_the_validation_split_stands_in_for_a_missing_test_split(tmp_path: Path):
    write_results(tmp_path, split="valid", auc=0.5)
    row = summarize_job(Job("0", (), ()), tmp_path, exit_code=0)
    assert (row["split"], row["auc"]) == ("valid", 0.5)


def test_damaged_results_leave_their_columns_empty(tmp_path: Path):
    write_results(tmp_path, split="test", auc=0.5)
    (tmp_path / "evaluation" / "test" / "metrics.json").write_text("{")
    (tmp_path / "checkpoints" / "best.json").write_text("[]")
    row = summarize_job(Job("0", (), ()), tmp_path, exit_code=0)
    assert (row["auc"], row["best_valid"]) == ("", "")


@pytest.mark.slow
def test_two_jobs_end_to_end(
    tmp_path: Path, prepared: Path, capfd: pytest.CaptureFixture[str]
):
    overrides = tiny_overrides(tmp_path, "run_name=mine", prepared=prepared)
    assert main(["train", "-m", *overrides, "trainer.seed=1,2"]) == 0
    folder = tmp_path / "outputs" / "mine"
    with (folder / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [str(folder / name) for name in "01"]
    assert [row["overrides"] for row in rows] == ["trainer.seed=1", "trainer.seed=2"]
    for name, row in zip("01", rows, strict=True):
        metrics = json.loads(
            (folder / name / "evaluation" / "test" / "metrics.json").read_text()
        )
        assert (row["status"], row["split"]) == ("done", "test")
        assert float(row["auc"]) == metrics["auc"]
        assert float(row["log_loss"]) == metrics["log_loss"]
    assert rows[0]["auc"] != rows[1]["auc"]
    table = capfd.readouterr().out.splitlines()[-4:]
    assert table[0].split() == [
        "run", "overrides", "status", "best_valid", "split", "auc", "log_loss",
    ]  # fmt: skip
    assert [line.split()[1] for line in table[1:3]] == [
        "trainer.seed=1", "trainer.seed=2",
    ]  # fmt: skip
    assert table[3] == str(folder / "sweep.csv")
