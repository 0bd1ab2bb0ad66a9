"""The entry point finds commands, words errors, and gives exit codes."""

import errno
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import dlrm
from dlrm.commands import main as entry
from dlrm.commands.arguments import CommandHelp
from dlrm.config.errors import DataError

HELP = CommandHelp(name="train", summary="Train", usage="", examples=("dlrm train",))


def run_command(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> int:
    """Run ``dlrm train`` with a body that raises."""

    def body(argv: list[str]) -> int:
        if error is not None:
            raise error
        return 0

    module = SimpleNamespace(main=body, HELP=HELP)
    monkeypatch.setattr(entry.importlib, "import_module", lambda name: module)
    return entry.main(["train"])


def test_help_lists_every_command_and_each_is_a_module(
    capsys: pytest.CaptureFixture[str],
):
    assert entry.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in entry.COMMANDS)
    for name in entry.COMMANDS:
        assert (Path(entry.__file__).parent / f"{name}.py").is_file(), name


def test_without_arguments_the_help_is_printed(capsys: pytest.CaptureFixture[str]):
    assert entry.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: dlrm COMMAND")


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_every_command_has_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
):
    assert entry.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: dlrm {name}")
    assert f"examples:\n  dlrm {name}" in text


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]):
    assert entry.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dlrm {dlrm.__version__}\n"


def test_an_unknown_command_gets_a_near_match(capsys: pytest.CaptureFixture[str]):
    assert entry.main(["trian"]) == 2
    message = capsys.readouterr().err
    assert "There is no command 'trian'. Did you mean train?" in message


def test_success_is_zero(monkeypatch: pytest.MonkeyPatch):
    assert run_command(monkeypatch, None) == 0


def test_a_users_error_is_one_message_and_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run_command(monkeypatch, DataError("clicks.csv has no rows.")) == 2
    captured = capsys.readouterr()
    assert captured.err == "dlrm train: error: clicks.csv has no rows.\n"
    assert captured.out == ""


def test_full_error_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DLRM_FULL_ERROR", "1")
    assert run_command(monkeypatch, DataError("no rows.")) == 2
    message = capsys.readouterr().err
    assert "Traceback" in message
    assert message.endswith("dlrm train: error: no rows.\n")


def test_an_interruption_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run_command(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "dlrm train: interrupted\n"


@pytest.mark.parametrize(
    ("error", "fragment"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "x.bin"),
            "disk is full (x.bin)",
        ),
        (OSError("[errno 28] No space left on device"), "disk is full"),
        (RuntimeError("writer: No space left on device (os error 28)"), "disk is full"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), "a.csv must exist"),
        (
            PermissionError(errno.EACCES, "Permission denied", "o"),
            "o must be open to you",
        ),
        (OSError(errno.EROFS, "Read-only file system", "o"), "Read-only file system"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "o"), "Not a directory"),
        (ImportError("libtorch is broken", name="torch"), "Run dlrm doctor"),
    ],
)
def test_what_the_machine_refuses_is_a_readable_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    fragment: str,
):
    assert run_command(monkeypatch, error) == 2
    message = capsys.readouterr().err
    assert message.startswith("dlrm train: error: ")
    assert fragment in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        ImportError("cannot import name 'x'", name="dlrm.data"),
    ],
)
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception):
    with pytest.raises(type(error), match=str(error.args[-1])):
        run_command(monkeypatch, error)


def test_an_error_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch):
    # Ranks share stderr, and PYTHONUNBUFFERED hands on each piece by itself.
    stderr = io.StringIO()
    pieces: list[str] = []
    monkeypatch.setattr(stderr, "write", pieces.append)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert run_command(monkeypatch, DataError("seed must be a number.")) == 2
    assert pieces == ["dlrm train: error: seed must be a number.\n"]


def test_a_reader_that_goes_away_is_no_error(workdir: Path):
    line = f"{sys.executable} -m dlrm --help | head -c 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True
    )
    assert done.stdout == "u"
    assert "Traceback" not in done.stderr


def test_a_missing_source_is_one_message_and_leaves_nothing(workdir: Path):
    table = ["data.format=table", "data.synthetic=null", "data.source=nosuch.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "dlrm", "prepare", *table, "data.split=random"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "nosuch.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in workdir.rglob("*") if path.is_file()] == []
