from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlrm.config.compose import compose
from dlrm.config.differences import differing_settings, is_resumable
from dlrm.config.errors import RunError
from dlrm.distributed.restart import is_restart, launch_id
from dlrm.earlier_run import earlier_run
from dlrm.run import MANIFEST_FILE, Run
from tests.runs import tiny_overrides


def of_launch(run: Run, tmp_path: Path, launch: str | None) -> Path:
    """Return a copy of a run that another launch has begun, in a folder of its own."""
    import shutil

    folder = tmp_path / "outputs" / "begun"
    shutil.copytree(run.folder, folder)
    manifest = folder / MANIFEST_FILE
    content = json.loads(manifest.read_text()) | {"launch": launch}
    manifest.write_text(json.dumps(content))
    return folder


def config_of(tmp_path: Path, prepared: Path, *extra: str):
    return compose(tiny_overrides(tmp_path, *extra, prepared=prepared))


def test_a_first_start_has_no_earlier_run(
    trained: Run, tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    of_launch(trained, tmp_path, "job-7")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert earlier_run(config_of(tmp_path, prepared)) is None


def test_a_restarted_job_finds_the_run_it_began(
    trained: Run, tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = of_launch(trained, tmp_path, "job-7")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-7")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    found = earlier_run(config_of(tmp_path, prepared))
    assert found is not None
    assert found.folder == folder
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job-8")
    assert earlier_run(config_of(tmp_path, prepared)) is None


@pytest.mark.parametrize("launch", [None, "none"])
def test_a_static_rendezvous_is_known_by_its_torchrun_process(
    launch: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if launch is not None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", launch)
        assert launch_id() == launch_id() is not None
        assert "none" not in launch_id()
    else:
        assert launch_id() is None
        assert not is_restart()


def test_resume_goes_on_with_the_named_run_or_begins_it(
    trained: Run, tmp_path: Path, prepared: Path
):
    folder = of_launch(trained, tmp_path, None)
    named = ("run_name=begun", "resume=true")
    found = earlier_run(config_of(tmp_path, prepared, *named, "trainer.num_epochs=3"))
    assert found is not None
    assert found.folder == folder
    assert found.config.trainer.num_epochs == 3
    other = ("run_name=other", "resume=true")
    assert earlier_run(config_of(tmp_path, prepared, *other)) is None


def test_other_settings_are_named(trained: Run, tmp_path: Path, prepared: Path):
    of_launch(trained, tmp_path, None)
    config = config_of(
        tmp_path, prepared, "run_name=begun", "resume=true", "model.top_mlp=[4]"
    )
    with pytest.raises(RunError, match=r"another model\.top_mlp"):
        earlier_run(config)


def test_what_it_runs_on_and_how_long_is_no_difference(tmp_path: Path, prepared: Path):
    one = config_of(tmp_path, prepared)
    other = config_of(
        tmp_path, prepared, "sharding.strategy=row_wise", "launcher.processes=2",
        "trainer.num_threads=3", "tables.item.sharding.strategy=table_wise",
        "run_name=x",
    )  # fmt: skip
    assert differing_settings(one, other) == []
    assert is_resumable("tables.item.sharding.strategy")
    assert not is_resumable("tables.item.frozen")
    assert not is_resumable("trainer.seed")
