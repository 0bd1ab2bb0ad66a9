"""A rank tells its launcher why it ended, and its next life that it need not try."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlrm.commands.main import main
from dlrm.distributed.failure import (
    RankFailure,
    failure_before_restart,
    read_failure,
    tell_launcher,
)

MISTAKE = RankFailure(message="no such key", code=2, timestamp=7)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return torch's folder of a job in its second life, whose rank 1 this is."""
    for life in range(2):
        for rank in range(2):
            (tmp_path / f"attempt_{life}" / str(rank)).mkdir(parents=True)
    file = tmp_path / "attempt_1" / "1" / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    return tmp_path


def tell(folder: Path, failure: RankFailure, *, rank: int) -> None:
    file = folder / "attempt_0" / str(rank) / "error.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
        tell_launcher(failure)


def test_what_is_told_reads_back_and_is_what_torch_reads(folder: Path):
    tell_launcher(MISTAKE)
    file = folder / "attempt_1" / "1" / "error.json"
    assert read_failure(file) == MISTAKE
    # torch.distributed.elastic.multiprocessing.errors.ProcessFailure takes these two.
    content = json.loads(file.read_text())
    assert (content["message"], content["timestamp"]) == ("no such key", 7)


def test_without_a_launcher_nothing_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    tell_launcher(MISTAKE)
    assert failure_before_restart() is None


def test_a_reason_of_the_last_life_ends_the_next_one(folder: Path):
    tell(folder, MISTAKE, rank=0)
    assert failure_before_restart() == MISTAKE


def test_what_died_without_a_reason_may_live_again(folder: Path):
    follows = RankFailure(message="rank 1 failed", code=2, of_other_rank=True)
    tell(folder, follows, rank=0)
    (folder / "attempt_0" / "1" / "error.json").write_text("{")
    assert failure_before_restart() is None


def test_the_first_life_has_none_before_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    file = folder / "attempt_0" / "0" / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    tell_launcher(MISTAKE)
    assert failure_before_restart() is None


def test_the_command_ends_as_its_last_life_did(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    tell(folder, MISTAKE, rank=0)
    assert main(["train", "trainer.seed=1"]) == 2
    assert capsys.readouterr().err == ""
    assert read_failure(folder / "attempt_1" / "1" / "error.json") == MISTAKE


def test_a_mistake_is_told_and_printed_unless_our_launcher_prints_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", "trainer.sede=1"]) == 2
    assert "trainer.sede is not a setting" in capsys.readouterr().err
    monkeypatch.setenv("DLRM_LAUNCHED", "1")
    assert main(["train", "trainer.sede=1"]) == 2
    assert capsys.readouterr().err == ""
    told = read_failure(folder / "attempt_1" / "1" / "error.json")
    assert told is not None
    assert told.message.startswith("trainer.sede is not a setting")
