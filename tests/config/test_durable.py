"""What the system refuses to write is told by name, and nothing half is left."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from dlrm.config.durable import flush_to_disk, write_whole, writing_to
from dlrm.config.errors import UserError, WriteError


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_left(tmp_path: Path):
    path = tmp_path / "below" / "dense.safetensors"
    with pytest.raises(WriteError) as refused, writing_to(path, needed=2_500_000_000):
        raise OSError(errno.ENOSPC, "No space left on device")
    message = str(refused.value)
    assert message.startswith(
        f"Writing {path} needs 2.5 GB free, but the disk is full:"
    )
    assert " are left (No space left on device)." in message
    assert refused.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EROFS, "Read-only file system"), (errno.EIO, "Input/output error")],
)
def test_another_reason_is_told_in_the_systems_words(number: int, words: str):
    with pytest.raises(WriteError, match=f"/x/y must be writable.*{words}"):  # noqa: SIM117
        with writing_to(Path("/x/y")):
            raise OSError(number, os.strerror(number))


def test_errors_of_a_copied_folder_are_told_as_one():
    wrapped = shutil.Error([("a", "b", "[Errno 30] Read-only file system: 'b'")])
    path = Path("/x/y")
    with pytest.raises(WriteError, match="/x/y must be.*Read-only"), writing_to(path):
        raise wrapped


def test_an_error_that_a_library_wrapped_is_told_alike():
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    with (
        pytest.raises(WriteError, match="/x/y needs free space"),
        writing_to(Path("/x/y")),
    ):
        raise SafetensorError(text)


def test_what_is_no_error_of_the_disk_passes_as_it_is():
    with pytest.raises(KeyError, match="a bug"), writing_to(Path("/x")):
        raise KeyError("a bug")
    inner = WriteError("told already", errno.EIO)
    with pytest.raises(WriteError, match="^told already$"), writing_to(Path("/x")):
        raise inner


def test_a_write_error_is_a_users_error_and_an_os_error():
    assert issubclass(WriteError, UserError)
    assert issubclass(WriteError, OSError)


def test_a_text_that_cannot_be_flushed_leaves_the_old_one_and_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "best.json"
    write_whole(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_gone_cannot_be_flushed(tmp_path: Path):
    with pytest.raises(WriteError, match="No such file or directory"):
        flush_to_disk(tmp_path / "gone")
