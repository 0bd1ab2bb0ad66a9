import errno
from pathlib import Path

import pytest

from dlrm.config import exchange
from dlrm.config.errors import RunError
from dlrm.evaluation.replace import replacing_folder


def write(folder, text):
    with replacing_folder(folder) as aside:
        (aside / "file").write_text(text)
        assert not folder.exists() or (folder / "file").read_text() != text


@pytest.mark.parametrize("exchange_works", [True, False])
def test_a_folder_is_made_and_replaced_and_nothing_else_is_left(
    tmp_path, monkeypatch, exchange_works
):
    if not exchange_works:
        monkeypatch.setattr(exchange.ctypes, "CDLL", lambda *_, **__: object())
    folder = tmp_path / "evaluation" / "test"
    write(folder, "old")
    (folder / "stray").write_text("of the old content")
    write(folder, "new")
    assert (folder / "file").read_text() == "new"
    assert list(folder.iterdir()) == [folder / "file"]
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failure_leaves_the_old_content_whole(tmp_path):
    folder = tmp_path / "test"
    write(folder, "old")
    with pytest.raises(KeyError), replacing_folder(folder) as aside:  # noqa: PT012
        (aside / "file").write_text("half")
        raise KeyError
    assert (folder / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_is_a_message_that_names_the_folder(tmp_path):
    folder = tmp_path / "test"
    write(folder, "old")
    full = OSError(errno.ENOSPC, "No space left on device")
    message = f"{folder}.*No space left on device"
    with pytest.raises(RunError, match=message), replacing_folder(folder):
        raise full
    assert (folder / "file").read_text() == "old"


def test_a_failed_second_rename_puts_the_old_content_back(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange.ctypes, "CDLL", lambda *_, **__: object())
    folder = tmp_path / "test"
    write(folder, "old")
    rename = Path.rename

    def failing(self, target):
        if self.name.startswith(".writing"):
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(RunError, match="Permission denied"):
        write(folder, "new")
    assert (folder / "file").read_text() == "old"
