"""How the processes of one job word an error: one message, and who met it."""

from __future__ import annotations

import time

import pytest

from dlrm.commands import doctor
from dlrm.commands.main import main
from dlrm.config.errors import ConfigError, DataError, OtherRankError, RankGoneError


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception, **variables: str):
    def broken(argv: list[str]) -> int:
        raise error

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if "RANK" in variables:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setattr(doctor, "main", broken)
    return main(["doctor"])


def met_by(rank: int, error: Exception) -> Exception:
    """Return an error as it leaves ``joined``."""
    error.rank = rank  # type: ignore[attr-defined]
    return error


def test_the_rank_that_failed_says_which_it_is(monkeypatch, capsys):
    code = fail_with(monkeypatch, met_by(3, DataError("Row 17 is bad.")))
    assert code == 2
    assert capsys.readouterr().err == ("[rank 3] dlrm doctor: error: Row 17 is bad.\n")


def test_the_others_say_one_short_line(monkeypatch, capsys):
    error = OtherRankError("Rank 3 stopped the job: Row 17 is bad.")
    assert fail_with(monkeypatch, met_by(0, error)) == 2
    assert capsys.readouterr().err == (
        "[rank 0] dlrm doctor: Rank 3 stopped the job: Row 17 is bad.\n"
    )


def test_a_lost_rank_is_worth_another_try_and_no_bug(monkeypatch, capsys):
    error = RankGoneError("Rank 1 is gone (no sign of life for 60 s).")
    assert fail_with(monkeypatch, met_by(0, error)) == 75
    assert capsys.readouterr().err == (
        "[rank 0] dlrm doctor: Rank 1 is gone (no sign of life for 60 s).\n"
    )


def test_before_they_meet_the_machines_first_rank_speaks_first(monkeypatch, capsys):
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    error = ConfigError("trainer.seed must be >= 0, but it is -1.")
    first = variables | {"RANK": "0", "LOCAL_RANK": "0"}
    assert fail_with(monkeypatch, error, **first) == 2
    assert slept == []
    said = "dlrm doctor: error: trainer.seed must be >= 0, but it is -1.\n"
    assert capsys.readouterr().err == said
    # The launcher ends it in its sleep, unless the first one has no such error.
    assert fail_with(monkeypatch, error, **variables, RANK="1", LOCAL_RANK="1") == 2
    assert slept == [1.5]
    assert capsys.readouterr().err == f"[rank 1] {said}"


def test_one_process_has_no_rank(monkeypatch, capsys):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert fail_with(monkeypatch, DataError("Row 17 is bad.")) == 2
    assert capsys.readouterr().err == "dlrm doctor: error: Row 17 is bad.\n"
